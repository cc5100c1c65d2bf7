_base_ = "share_eca_voc.py"
# The scheme was searched for SE: search yours with configs/search/eca_imagenet.py.
model = dict(backbone=dict(scheme="authors/imagenet-se"))
