_base_ = "org_shb.py"
model = dict(backbone=dict(attention=dict(type="SE", reduction=16), sharing="block"))
