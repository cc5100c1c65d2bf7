_base_ = "share_dia_sha.py"
model = dict(backbone=dict(scheme="paper/imagenet-dia"))
toy = dict(model=dict(backbone=dict(scheme="01-01-01-00")))
