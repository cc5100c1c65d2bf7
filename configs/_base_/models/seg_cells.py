# The network of a genotype (14 cells of 48 channels behind ImageNet's stem: 4 M parameters) in the place of the
# ResNet-50, under any of the heads. It has three feature maps, at 1/8, 1/16 and 1/32.
_base_ = "seg_resnet50.py"
head = "deeplabv3plus"
_last = dict(
    backbone=dict(_delete_=True),
    decode_head=dict(in_index=2),
    auxiliary_head=dict(in_index=1),
)
heads = dict(
    psp=_last,
    fcn=_last,
    deeplabv3=_last,
    deeplabv3plus=_last,
    upernet=dict(_last, decode_head=dict(in_index=[0, 1, 2])),
)
model = dict(
    backbone=dict(
        _delete_=True,
        type="ean_core.CellNetwork",
        genotype="att-darts",
        channels=48,
        layers=14,
        num_classes=None,
        stem="imagenet",
    ),
)
