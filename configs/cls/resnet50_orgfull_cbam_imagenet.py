_base_ = "resnet50_share_cbam_imagenet.py"
model = dict(backbone=dict(sharing="block"))
