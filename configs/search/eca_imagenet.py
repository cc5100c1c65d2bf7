_base_ = "../_base_/search/imagenet.py"
model = dict(backbone=dict(attention=dict(type="ECA")))
search = dict(retrain="configs/cls/resnet50_share_eca_imagenet.py")
