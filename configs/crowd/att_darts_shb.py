_base_ = [
    "../_base_/models/crowd_cells.py",
    "../_base_/datasets/shb.py",
    "../_base_/schedules/crowd.py",
    "../_base_/runtime/crowd.py",
]
toy = dict(model=dict(backbone=dict(_delete_=True, channels=16, layers=5)))
