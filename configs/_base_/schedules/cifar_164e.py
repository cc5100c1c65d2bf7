# 164 epochs, SGD 0.1, a tenth of it from epoch 81 and again from 122, batch 128: what the EAN authors' DIANet code runs
# for its 164-layer networks on CIFAR (its script for the post-activation ResNet-164 says 180 epochs, 60 and 120).
# With another train_cfg.max_epochs the steps move in proportion.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [dict(type="MultiStepLR", milestones=[81, 122], gamma=0.1, begin=0, end=164, by_epoch=True)]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=164, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
