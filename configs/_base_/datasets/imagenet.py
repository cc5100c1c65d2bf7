# ImageNet as folders (train/CLASS/*.JPEG, val/CLASS/*.JPEG), or any --data-root. Read file by file.
task = "classification"
data_root = "data/imagenet"
layout = "folder"
image_size = 224
in_memory = False
train_part = "train"  # "search_train" and "search_val" are the paper's D_train and D_val: both from the training set
val_part = "val"
held_out = 100  # images a class in D_val
split_seed = None  # which: each class's first, as the authors do, or drawn by a number

_dataset = dict(type="classification.datasets.build_dataset", root=data_root, part="val")
train_dataloader = dict(
    batch_size=256,  # in one process; under torchrun with n processes set 256 / n
    num_workers=8,
    persistent_workers=False,  # a resumed run repeats exactly only with new workers in every epoch
    worker_init_fn=dict(type="ean_core.engine.seed_worker"),
    collate_fn=dict(type="classification.datasets.collate"),
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(_dataset, part="train", augment=True),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    collate_fn=dict(type="classification.datasets.collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset,
)
test_dataloader = val_dataloader
val_evaluator = dict(type="classification.metric.TopK", topk=(1, 5))
test_evaluator = val_evaluator

# What --toy changes: the data, and a schedule that fits it. Model, pipeline and metrics stay.
toy = dict(
    image_size=64,
    held_out=12,
    train_dataloader=dict(batch_size=16, num_workers=0),
    val_dataloader=dict(batch_size=48, num_workers=0),
    test_dataloader=dict(batch_size=48, num_workers=0),
    train_cfg=dict(max_epochs=4),
    optim_wrapper=dict(optimizer=dict(lr=0.02)),
)
