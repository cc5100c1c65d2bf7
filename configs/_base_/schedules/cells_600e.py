# DARTS's retraining, which Att-DARTS takes over: 600 epochs, batch 96, SGD 0.025 along a cosine to 0, clipped at 5, and
# drop-path that grows to 0.2.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.025, momentum=0.9, weight_decay=3e-4),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [dict(type="CosineAnnealingLR", eta_min=0.0, begin=0, end=600, by_epoch=True)]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=600, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
drop_path = dict(type="ean_core.engine.DropPathHook", rate=0.2)
