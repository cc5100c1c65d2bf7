_base_ = "share_sge_shb.py"
model = dict(backbone=dict(scheme="paper/imagenet-sge"))
toy = dict(model=dict(backbone=dict(scheme="01-01-01-00")))
