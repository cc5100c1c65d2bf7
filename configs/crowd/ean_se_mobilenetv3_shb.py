_base_ = "org_mobilenetv3_shb.py"
# Every second point is connected, until a search of yours finds a better scheme.
model = dict(backbone=dict(attention=dict(type="SE", reduction=4), scheme="1-0-10-101-0-10"))
