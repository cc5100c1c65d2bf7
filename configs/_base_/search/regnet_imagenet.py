# Algorithm 1 on ImageNet with a RegNetX-400MF: the values of imagenet.py beside this file.
_base_ = [
    "../models/cls_regnet.py",
    "../datasets/imagenet.py",
    "../schedules/imagenet_120e.py",
    "../runtime/cls.py",
    "algorithm1.py",
]
train_part = "search_train"
val_part = "search_val"
train_cfg = dict(max_epochs=40)
custom_hooks = [*_base_.custom_hooks, dict(type="ean_core.search.SupernetHook")]
search = dict(steps=300, retrain="configs/cls/org_regnet_imagenet.py")
toy = dict(
    train_cfg=dict(max_epochs=12),
    optim_wrapper=dict(optimizer=dict(lr=0.005)),
    search=dict(steps=60),
)
