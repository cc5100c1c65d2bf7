_base_ = "org_regnet_imagenet.py"
# ECA is timm's class. Every second point is connected, until a search of yours finds a better scheme.
model = dict(backbone=dict(attention=dict(type="timm.layers.EcaModule"), scheme="1-01-0101010-101010101010"))
