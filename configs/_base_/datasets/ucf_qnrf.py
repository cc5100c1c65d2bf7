# UCF-QNRF: 1,201 and 334 images of up to 12,865 people, with long sides limited to 2048 pixels.
_base_ = "sha.py"
part = "ucf_qnrf"
longest = 2048
train_dataloader = dict(dataset=dict(part=part, augment=dict(crop=(512, 512))))
val_dataloader = dict(dataset=dict(part=part))
test_dataloader = dict(dataset=dict(part=part))
