_base_ = "resnet50_share_cbam_imagenet.py"
# The scheme was searched for SE: search yours with configs/search/cbam_imagenet.py.
model = dict(backbone=dict(scheme="authors/imagenet-se"))
