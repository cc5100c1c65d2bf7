_base_ = "org_shb.py"
model = dict(backbone=dict(attention=dict(type="SGE", groups=64), sharing="block"))
