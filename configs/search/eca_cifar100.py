_base_ = "../_base_/search/cifar100.py"
model = dict(backbone=dict(attention=dict(type="ECA")))
search = dict(retrain="configs/cls/resnet164_share_eca_cifar100.py")
