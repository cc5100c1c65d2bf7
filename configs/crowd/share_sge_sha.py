_base_ = "org_sha.py"
model = dict(backbone=dict(attention=dict(type="SGE", groups=64)))
