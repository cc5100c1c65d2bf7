_base_ = [
    "../_base_/models/crowd_resnet50.py",
    "../_base_/datasets/ucf_qnrf.py",
    "../_base_/schedules/crowd.py",
    "../_base_/runtime/crowd.py",
]
