_base_ = [
    "../_base_/models/crowd_resnet50.py",
    "../_base_/datasets/shb.py",
    "../_base_/schedules/crowd.py",
    "../_base_/runtime/crowd.py",
]
toy = dict(  # a network that learns in a minute
    head="conv1x1",
    model=dict(backbone=dict(depth=18)),
    train_dataloader=dict(dataset=dict(augment=dict(crop=(96, 128)))),
    optim_wrapper=dict(optimizer=dict(lr=2e-3)),
    param_scheduler=[dict(type="ExponentialLR", gamma=0.85, begin=0, end=20, by_epoch=True)],
    train_cfg=dict(max_epochs=20, val_interval=5),
)
