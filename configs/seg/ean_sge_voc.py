_base_ = "share_sge_voc.py"
model = dict(backbone=dict(scheme="paper/imagenet-sge"))
