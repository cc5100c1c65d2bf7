# The network of a genotype up to its first reduction, at 1/8 behind ImageNet's stem, in the place of the ResNet-50.
_base_ = "crowd_resnet50.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="ean_core.CellNetwork",
        genotype="att-darts",
        channels=48,
        layers=14,
        num_classes=None,
        stem="imagenet",
        out_indices=(0,),
    ),
)
