_base_ = "share_se_shb.py"
model = dict(backbone=dict(scheme="authors/imagenet-se"))
toy = dict(model=dict(backbone=dict(scheme="01-01-01-00")))
