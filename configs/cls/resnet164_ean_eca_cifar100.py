_base_ = "resnet164_share_eca_cifar100.py"
# The scheme was searched for SE: search yours with configs/search/eca_cifar100.py.
model = dict(backbone=dict(scheme="paper/cifar100-se-a"))
