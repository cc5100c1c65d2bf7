_base_ = "../_base_/search/cifar100.py"
model = dict(backbone=dict(attention=dict(type="SGE", groups=4)))
search = dict(retrain="configs/cls/resnet164_share_sge_cifar100.py")
