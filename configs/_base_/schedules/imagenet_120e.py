# The authors' ImageNet code: 120 epochs, batch 256, SGD 0.1, a tenth of it every 30 epochs, no label smoothing
# (model.label_smoothing=0.1 turns it on). With another train_cfg.max_epochs the steps move in proportion.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [dict(type="MultiStepLR", milestones=[30, 60, 90], gamma=0.1, begin=0, end=120, by_epoch=True)]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=120, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
