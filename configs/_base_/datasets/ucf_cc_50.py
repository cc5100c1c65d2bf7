# UCF_CC_50: 50 grey images. part="ucf_cc_50-2" is the second of five folds; results are the mean over the folds.
_base_ = "sha.py"
part = "ucf_cc_50-1"
train_dataloader = dict(dataset=dict(part=part))
val_dataloader = dict(dataset=dict(part=part))
test_dataloader = dict(dataset=dict(part=part))
