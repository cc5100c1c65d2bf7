_base_ = "../_base_/search/cifar100.py"
model = dict(backbone=dict(attention=dict(type="CBAM", reduction=16)))
search = dict(retrain="configs/cls/resnet164_share_cbam_cifar100.py")
