_base_ = [
    "../_base_/models/crowd_csrnet.py",
    "../_base_/datasets/shb.py",
    "../_base_/schedules/crowd.py",
    "../_base_/runtime/crowd.py",
]
schedule = "csrnet"  # with --pretrained torchvision; from random weights it is too slow to learn anything
toy = dict(
    schedule="c3f",
    model=dict(backbone=dict(_delete_=True)),
    train_dataloader=dict(dataset=dict(augment=dict(crop=(64, 96)))),
    optim_wrapper=dict(optimizer=dict(lr=1e-4)),
    train_cfg=dict(max_epochs=8, val_interval=4),
)
