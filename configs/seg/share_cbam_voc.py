_base_ = "org_voc.py"
model = dict(backbone=dict(attention=dict(type="CBAM", reduction=16)))
