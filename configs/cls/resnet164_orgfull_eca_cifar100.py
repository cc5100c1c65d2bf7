_base_ = "resnet164_share_eca_cifar100.py"
model = dict(backbone=dict(sharing="block"))
