# DARTS's retraining on ImageNet: 14 cells of 48 channels behind a stem that makes the map eight times smaller; 250
# epochs, batch 128, SGD 0.1, 0.97 times that in every epoch, label smoothing; without cutout and drop-path.
_base_ = [
    "../_base_/models/cls_cells.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/cells_600e.py",
    "../_base_/runtime/cls.py",
]
model = dict(
    num_classes=1000,
    label_smoothing=0.1,
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], padding=0, flip=0.0, cutout=0),
    backbone=dict(channels=48, layers=14, stem="imagenet", image_size=224),
)
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=3e-5))
param_scheduler = [dict(type="ExponentialLR", gamma=0.97, begin=0, end=250, by_epoch=True)]
train_cfg = dict(max_epochs=250)
toy = dict(
    model=dict(backbone=dict(channels=8, layers=5, image_size=64)),
    train_cfg=dict(max_epochs=8),
    optim_wrapper=dict(optimizer=dict(lr=0.05)),
)
