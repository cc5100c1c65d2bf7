_base_ = "resnet50_share_se_imagenet.py"
model = dict(backbone=dict(scheme="authors/imagenet-se"))
