_base_ = "resnet50_share_eca_imagenet.py"
# The scheme was searched for SE: search yours with configs/search/eca_imagenet.py.
model = dict(backbone=dict(scheme="authors/imagenet-se"))
