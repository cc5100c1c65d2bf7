# EANResNet-50 under one of five decoders; `head` is the choice.
_dilated = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))  # output stride 8
_auxiliary = dict(
    type="FCNHead",
    in_channels=1024,
    in_index=2,
    channels=256,
    num_convs=1,
    concat_input=False,
    dropout_ratio=0.1,
    num_classes=21,
    norm_cfg=dict(type="BN"),
    align_corners=False,
    loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=0.4),
)
_head = dict(
    in_channels=2048,
    in_index=3,
    channels=512,
    dropout_ratio=0.1,
    num_classes=21,
    norm_cfg=dict(type="BN"),
    align_corners=False,
    loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
)
heads = dict(
    psp=dict(
        backbone=_dilated,
        decode_head=dict(_head, type="PSPHead", pool_scales=(1, 2, 3, 6)),
        auxiliary_head=_auxiliary,
    ),
    fcn=dict(
        backbone=_dilated,
        decode_head=dict(_head, type="FCNHead", num_convs=2, concat_input=True),
        auxiliary_head=_auxiliary,
    ),
    deeplabv3=dict(
        backbone=_dilated,
        decode_head=dict(_head, type="ASPPHead", dilations=(1, 12, 24, 36)),
        auxiliary_head=_auxiliary,
    ),
    deeplabv3plus=dict(
        backbone=_dilated,
        decode_head=dict(
            _head,
            type="DepthwiseSeparableASPPHead",
            dilations=(1, 12, 24, 36),
            c1_in_channels=256,
            c1_channels=48,
        ),
        auxiliary_head=_auxiliary,
    ),
    upernet=dict(
        backbone=dict(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)),
        decode_head=dict(
            _head,
            type="UPerHead",
            in_channels=[256, 512, 1024, 2048],
            in_index=[0, 1, 2, 3],
            pool_scales=(1, 2, 3, 6),
        ),
        auxiliary_head=_auxiliary,
    ),
)
head = "psp"
inference = "whole"  # or "slide": windows of crop_size, a third of it overlapping

model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(473, 473),
    ),
    backbone=dict(
        type="ean_core.EANResNet",
        depth=50,
        out_indices=(0, 1, 2, 3),
        **heads[head]["backbone"],
    ),
    decode_head=heads[head]["decode_head"],
    auxiliary_head=heads[head]["auxiliary_head"],
    test_cfg=dict(mode="whole"),
)
tta_model = dict(type="SegTTAModel")
