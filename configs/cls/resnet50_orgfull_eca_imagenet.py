_base_ = "resnet50_share_eca_imagenet.py"
model = dict(backbone=dict(sharing="block"))
