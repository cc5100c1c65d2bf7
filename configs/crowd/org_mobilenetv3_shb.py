_base_ = [
    "../_base_/models/crowd_mobilenetv3.py",
    "../_base_/datasets/shb.py",
    "../_base_/schedules/crowd.py",
    "../_base_/runtime/crowd.py",
]
toy = dict(model=dict(backbone=dict(_delete_=True, network=dict(width_mult=0.5, norm_momentum=0.1))))
