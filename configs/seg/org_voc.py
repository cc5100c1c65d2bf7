_base_ = [
    "../_base_/models/seg_resnet50.py",
    "../_base_/datasets/voc2012.py",
    "../_base_/schedules/psp_50e.py",
    "../_base_/runtime/seg.py",
]
