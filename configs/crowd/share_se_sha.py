_base_ = "org_sha.py"
model = dict(backbone=dict(attention=dict(type="SE", reduction=16)))
