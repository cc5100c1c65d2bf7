# NWPU-Crowd: 3,109 + 500 images with annotations, with long sides limited to 2048 pixels.
_base_ = "ucf_qnrf.py"
part = "nwpu"
train_dataloader = dict(dataset=dict(part=part))
val_dataloader = dict(dataset=dict(part=part))
test_dataloader = dict(dataset=dict(part=part))
