# CIFAR-100 in torchvision's files, or any --data-root: a folder of classes, or CIFAR-10. Held in memory as uint8.
task = "classification"
data_root = "data"
layout = "cifar100"
image_size = 32
in_memory = True
train_part = "train"  # "search_train" and "search_val" are the paper's D_train and D_val: both from the training set
val_part = "val"  # CIFAR has no third set: as in the paper, this is the test set
held_out = 100  # images a class in D_val
split_seed = None  # which: each class's first, or drawn by a number

_dataset = dict(type="classification.datasets.build_dataset", root=data_root, part="val")
train_dataloader = dict(
    batch_size=128,
    num_workers=0,  # nothing is decoded, and augmentation runs on the device
    collate_fn=dict(type="classification.datasets.collate"),
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(_dataset, part="train", augment=True),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=0,
    collate_fn=dict(type="classification.datasets.collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset,
)
test_dataloader = val_dataloader
val_evaluator = dict(type="classification.metric.TopK", topk=(1, 5))
test_evaluator = val_evaluator

# What --toy changes: the data, and a schedule that fits it. Model, pipeline and metrics stay.
toy = dict(
    image_size=16,
    held_out=12,
    model=dict(data_preprocessor=dict(padding=2)),
    train_dataloader=dict(batch_size=16),
    val_dataloader=dict(batch_size=48),
    test_dataloader=dict(batch_size=48),
    train_cfg=dict(max_epochs=8),
    optim_wrapper=dict(optimizer=dict(lr=0.005)),
)
