_base_ = [
    "../_base_/models/seg_cells.py",
    "../_base_/datasets/voc2012.py",
    "../_base_/schedules/psp_50e.py",
    "../_base_/runtime/seg.py",
]
toy = dict(model=dict(backbone=dict(channels=16, layers=5)), optim_wrapper=dict(optimizer=dict(lr=0.02)))
