_base_ = "org_convnext_voc.py"
# Every second point is connected, until a search of yours finds a better scheme.
model = dict(backbone=dict(attention=dict(type="SE", reduction=16), scheme="101-010-101010101-010"))
