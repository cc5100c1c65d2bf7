_base_ = [
    "../_base_/models/seg_convnext.py",
    "../_base_/datasets/voc2012.py",
    "../_base_/schedules/psp_50e.py",
    "../_base_/runtime/seg.py",
]
optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW", lr=1e-4, weight_decay=0.05))  # as ConvNeXt's authors
toy = dict(optim_wrapper=dict(optimizer=dict(lr=1e-3)))
