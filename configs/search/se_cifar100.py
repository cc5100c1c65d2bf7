_base_ = "../_base_/search/cifar100.py"
model = dict(backbone=dict(attention=dict(type="SE", reduction=16)))
search = dict(retrain="configs/cls/resnet164_share_se_cifar100.py")
