_base_ = "resnet164_share_se_cifar100.py"
model = dict(backbone=dict(scheme="paper/cifar100-se-a"))
