_base_ = "../_base_/search/imagenet.py"
model = dict(backbone=dict(attention=dict(type="DIA", reduction=20)))
search = dict(retrain="configs/cls/resnet50_share_dia_imagenet.py")
