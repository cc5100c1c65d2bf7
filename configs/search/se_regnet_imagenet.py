_base_ = "../_base_/search/regnet_imagenet.py"
model = dict(backbone=dict(attention=dict(type="SE", reduction=4)))
