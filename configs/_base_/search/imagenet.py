# Algorithm 1 on ImageNet with a ResNet-50: supernet on D_train, then the search on D_val. The authors' values; the
# supernet's learning rate steps, which the paper does not give, are those of the training, in proportion.
_base_ = [
    "../models/cls_resnet50.py",
    "../datasets/imagenet.py",
    "../schedules/imagenet_120e.py",
    "../runtime/cls.py",
    "algorithm1.py",
]
train_part = "search_train"
val_part = "search_val"
train_cfg = dict(max_epochs=40)
custom_hooks = [*_base_.custom_hooks, dict(type="ean_core.search.SupernetHook")]
search = dict(steps=300)
toy = dict(
    image_size=32,
    model=dict(backbone=dict(depth=18)),
    train_cfg=dict(max_epochs=16),
    optim_wrapper=dict(optimizer=dict(lr=0.02)),
    search=dict(steps=60),
)
