_base_ = "share_cbam_voc.py"
model = dict(backbone=dict(sharing="block"))
