_base_ = "resnet50_share_sge_imagenet.py"
model = dict(backbone=dict(scheme="paper/imagenet-sge"))
