_base_ = "att_darts_cifar10.py"
layout = "cifar100"
model = dict(num_classes=100)
