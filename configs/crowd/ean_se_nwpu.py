_base_ = "org_nwpu.py"
model = dict(backbone=dict(attention=dict(type="SE", reduction=16), scheme="authors/imagenet-se"))
toy = dict(model=dict(backbone=dict(scheme="01-01-01-00")))
