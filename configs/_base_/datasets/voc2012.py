# Pascal VOC 2012; `train_list` is "train_aug" (10,582 images, with SBD's masks) or "train" (1,464).
task = "segmentation"
data = "voc"  # or "ade20k", "cityscapes", "coco_stuff10k", "coco_stuff164k", "loveda"
data_root = "data/VOCdevkit/VOC2012"
train_list = "train_aug"
val_list = "val"
crop_size = 473
orientation = "upright"  # the view in which the masks were drawn; "stored": as the image's file has its pixels
loss = "plain"  # or "weighted", "ohem"

_load = dict(type="LoadImageFromFile", imdecode_backend="ean_core")  # the one reader: docs/images.md
train_pipeline = [
    _load,
    dict(type="LoadAnnotations"),
    dict(type="segmentation.transforms.RandomScale", ratio=(0.5, 2.0)),
    dict(type="RandomRotate", prob=0.5, degree=10, pad_val=0, seg_pad_val=255),
    dict(type="RandomCrop", crop_size=(crop_size, crop_size), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    _load,
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
tta_pipeline = [
    _load,
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
            [dict(type="LoadAnnotations")],
            [dict(type="PackSegInputs")],
        ],
    ),
]

_dataset = dict(
    type="PascalVOCDataset",
    data_root=data_root,
    ann_file="ImageSets/Segmentation/val.txt",
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
    pipeline=test_pipeline,
)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=False,  # a resumed run repeats exactly only with new workers in every epoch
    worker_init_fn=dict(type="ean_core.engine.seed_worker"),
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        _dataset,
        ann_file="ImageSets/Segmentation/train_aug.txt",
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassAug"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,  # images differ in size
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset,
)
test_dataloader = val_dataloader
val_evaluator = dict(type="segmentation.metric.VOCMetric")
test_evaluator = [val_evaluator, dict(type="segmentation.per_image.ImageMetric")]

# What --toy changes: the data, and a schedule that fits it. Model, pipeline and metrics stay.
toy = dict(
    crop_size=64,
    train_dataloader=dict(batch_size=4, num_workers=0),
    val_dataloader=dict(num_workers=0),
    test_dataloader=dict(num_workers=0),
    train_cfg=dict(max_epochs=5, val_interval=3),
    optim_wrapper=dict(
        optimizer=dict(lr=0.05),
        paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=1), auxiliary_head=dict(lr_mult=1))),
    ),
)
