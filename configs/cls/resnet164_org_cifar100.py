_base_ = [
    "../_base_/models/cls_resnet164.py",
    "../_base_/datasets/cifar100.py",
    "../_base_/schedules/cifar_164e.py",
    "../_base_/runtime/cls.py",
]
