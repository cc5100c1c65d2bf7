_base_ = "resnet50_share_dia_imagenet.py"
model = dict(backbone=dict(scheme="paper/imagenet-dia"))
