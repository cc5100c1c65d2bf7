_base_ = "org_sha.py"
model = dict(backbone=dict(attention=dict(type="SGE", groups=64)))
toy = dict(optim_wrapper=dict(optimizer=dict(lr=4e-3)))  # at 2e-3 a minute is too short for it
