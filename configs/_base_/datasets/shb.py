# ShanghaiTech part B: people on streets, all images 1024x768. Any --data-root: a ShanghaiTech part, or your own data.
task = "crowd_counting"
data_root = "data"  # holds part_B_final/ or part_B/, here or one folder further down
part = "B"
orientation = "upright"  # the view in which the points were made; "stored": as the file has its pixels

_dataset = dict(type="crowd_counting.dataset.CrowdDataset", root=data_root, part=part, split="val", out_of_frame="drop")
train_dataloader = dict(
    num_workers=4,
    persistent_workers=False,  # a resumed run repeats exactly only with new workers in every epoch
    worker_init_fn=dict(type="ean_core.engine.seed_worker"),
    collate_fn=dict(type="crowd_counting.dataset.collate"),
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        _dataset,
        split="train",
        augment=dict(crop=(576, 768), scale=(0.8, 1.25), flip=0.5, jitter=0.2),
        density=dict(type="fixed", sigma=15),
        stride=8,
    ),
)
val_dataloader = dict(
    batch_size=1,  # whole images; part A's differ in size
    num_workers=4,
    collate_fn=dict(type="crowd_counting.dataset.collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset,
)
test_dataloader = dict(val_dataloader, dataset=dict(_dataset, split="test"))

# What --toy changes: the data, a network that learns in a minute, and a schedule that fits it.
toy = dict(
    train_dataloader=dict(
        batch_size=4, num_workers=0, dataset=dict(augment=dict(crop=(96, 128)), density=dict(sigma=4))
    ),
    val_dataloader=dict(num_workers=0),
    test_dataloader=dict(num_workers=0),
    head="conv1x1",
    model=dict(backbone=dict(depth=18)),
    optim_wrapper=dict(optimizer=dict(lr=2e-3)),
    param_scheduler=[dict(type="ExponentialLR", gamma=0.85, begin=0, end=20, by_epoch=True)],
    train_cfg=dict(max_epochs=20, val_interval=5),
)
