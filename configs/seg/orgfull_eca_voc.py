_base_ = "share_eca_voc.py"
model = dict(backbone=dict(sharing="block"))
