_base_ = [
    "../_base_/models/cls_regnet.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet_120e.py",
    "../_base_/runtime/cls.py",
]
toy = dict(train_cfg=dict(max_epochs=8), optim_wrapper=dict(optimizer=dict(lr=0.005)))
