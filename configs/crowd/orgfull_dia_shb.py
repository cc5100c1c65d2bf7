_base_ = "org_shb.py"
model = dict(backbone=dict(attention=dict(type="DIA", reduction=20), sharing="block"))
