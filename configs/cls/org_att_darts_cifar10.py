_base_ = "att_darts_cifar10.py"
model = dict(backbone=dict(attention=False))
