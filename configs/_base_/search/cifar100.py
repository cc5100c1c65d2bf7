# Algorithm 1 on CIFAR-100 with a ResNet-164: supernet on D_train, then the search on D_val. The authors' values; the
# supernet's learning rate steps, which the paper does not give, are those of the training, in proportion.
_base_ = [
    "../models/cls_resnet164.py",
    "../datasets/cifar100.py",
    "../schedules/cifar_164e.py",
    "../runtime/cls.py",
    "algorithm1.py",
]
train_part = "search_train"
val_part = "search_val"
train_cfg = dict(max_epochs=150)
custom_hooks = [*_base_.custom_hooks, dict(type="ean_core.search.SupernetHook")]
toy = dict(
    model=dict(backbone=dict(depth=29)),
    train_cfg=dict(max_epochs=20),
    optim_wrapper=dict(optimizer=dict(lr=0.02)),
    search=dict(steps=60),
)
