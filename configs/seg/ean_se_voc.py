_base_ = "share_se_voc.py"
model = dict(backbone=dict(scheme="authors/imagenet-se"))
