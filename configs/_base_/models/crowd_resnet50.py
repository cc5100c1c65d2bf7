# EANResNet-50 up to its third stage, at 1/8, under one of two density heads, with one of three losses; `head` and
# `loss` are the choices. Schemes keep the bits of all four stages; those of the last one are not used.
heads = dict(
    csrnet=dict(channels=(512, 512, 512, 256, 128, 64), kernel_size=3, dilation=2),
    conv1x1=dict(channels=(128,), kernel_size=1, dilation=1),  # C3F's ResNet-50
)
head = "csrnet"
losses = dict(
    mse=dict(type="crowd_counting.losses.DensityLoss", count_weight=0.0),
    bayesian=dict(type="crowd_counting.bayesian_loss.BayesianLoss"),
    dm_count=dict(type="crowd_counting.dm_count.DMCountLoss"),
)
loss = "mse"
output_stride = 8  # pixels a cell of the density map: 8, or 4, 2, 1 by enlarging the head's output
inference = "whole"  # or "tiled": images larger than a tile are evaluated in overlapping tiles
tiling = dict(tile=1024, overlap=192)  # half of it is left out at inner edges

model = dict(
    type="crowd_counting.counter.CrowdCounter",
    data_preprocessor=dict(
        type="crowd_counting.preprocess.CrowdPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        multiple=8,
    ),
    backbone=dict(
        type="ean_core.EANResNet",
        depth=50,
        num_stages=3,
        out_indices=(2,),
        strides=(1, 2, 1, 1),
    ),
    head=dict(type="crowd_counting.head.CSRNetHead"),
    loss=dict(),
    stride=output_stride,
)
