# JHU-CROWD++: 2,272 + 500 + 1,600 images, with long sides limited to 2048 pixels.
_base_ = "ucf_qnrf.py"
part = "jhu"
train_dataloader = dict(dataset=dict(part=part))
val_dataloader = dict(dataset=dict(part=part))
test_dataloader = dict(dataset=dict(part=part))
