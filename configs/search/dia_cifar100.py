_base_ = "../_base_/search/cifar100.py"
model = dict(backbone=dict(attention=dict(type="DIA", reduction=4)))
search = dict(retrain="configs/cls/resnet164_share_dia_cifar100.py")
