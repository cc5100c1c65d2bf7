# ImageNet as folders (train/CLASS/*.JPEG, val/CLASS/*.JPEG), or any --data-root. Read file by file.
_base_ = "cifar100.py"
data_root = "data/imagenet"
layout = "folder"
image_size = 224
in_memory = False
train_dataloader = dict(
    batch_size=256,  # in one process; under torchrun with n processes set 256 / n
    num_workers=8,
    persistent_workers=False,  # a resumed run repeats exactly only with new workers in every epoch
    worker_init_fn=dict(type="ean_core.engine.seed_worker"),
    dataset=dict(root=data_root),
)
val_dataloader = dict(num_workers=8, dataset=dict(root=data_root))
test_dataloader = val_dataloader
toy = dict(
    _delete_=True,
    image_size=64,
    held_out=12,
    train_dataloader=dict(batch_size=16, num_workers=0),
    val_dataloader=dict(batch_size=48, num_workers=0),
    test_dataloader=dict(batch_size=48, num_workers=0),
    train_cfg=dict(max_epochs=4),
    optim_wrapper=dict(optimizer=dict(lr=0.02)),
)
