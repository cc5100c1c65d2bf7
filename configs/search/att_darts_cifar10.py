_base_ = [
    "../_base_/models/cls_cell_supernet.py",
    "../_base_/datasets/cifar10.py",
    "../_base_/runtime/cls.py",
    "../_base_/search/cells.py",
]
train_part = "search_train"
val_part = "search_val"
held_out = 2500  # images a class in D_val: half of the training images
train_dataloader = dict(batch_size=64, drop_last=True)
search = dict(retrain="configs/cls/att_darts_cifar10.py")
toy = dict(
    held_out=24,
    model=dict(backbone=dict(layers=3, partial=4, image_size=16)),
    train_dataloader=dict(batch_size=24),
    train_cfg=dict(max_epochs=6),
    optim_wrapper=dict(optimizer=dict(lr=0.025)),
    search=dict(architecture_optimizer=dict(lr=3e-2), warmup=1),
)
