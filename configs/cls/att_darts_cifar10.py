_base_ = [
    "../_base_/models/cls_cells.py",
    "../_base_/datasets/cifar10.py",
    "../_base_/schedules/cells_600e.py",
    "../_base_/runtime/cls.py",
]
train_dataloader = dict(batch_size=96)
custom_hooks = [*_base_.custom_hooks, _base_.drop_path]
toy = dict(
    model=dict(data_preprocessor=dict(cutout=8), backbone=dict(channels=8, layers=5, image_size=16)),
    train_cfg=dict(max_epochs=8),
    optim_wrapper=dict(optimizer=dict(lr=0.025)),
)
