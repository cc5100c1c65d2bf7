_base_ = "../_base_/search/imagenet.py"
model = dict(backbone=dict(attention=dict(type="SGE", groups=64)))
search = dict(retrain="configs/cls/resnet50_share_sge_imagenet.py")
