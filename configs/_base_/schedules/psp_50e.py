# The PSPNet code base's protocol for VOC: 50 epochs, SGD 0.01 with ten times that for the heads, poly 0.9.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10), auxiliary_head=dict(lr_mult=10))),
)
param_scheduler = [
    dict(type="PolyLR", power=0.9, eta_min=0, begin=0, end=50, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=50, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
