_base_ = "share_dia_voc.py"
model = dict(backbone=dict(scheme="paper/imagenet-dia"))
