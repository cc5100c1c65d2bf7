# The network of a genotype for 32x32 images: 20 cells of 36 channels, 3.2 M parameters with the published cell.
_base_ = "cls_resnet164.py"
model = dict(
    num_classes=10,  # follows the data
    auxiliary=0.4,
    data_preprocessor=dict(cutout=16),
    backbone=dict(
        _delete_=True,
        type="ean_core.CellNetwork",
        genotype="att-darts",  # or --genotype: darts-v2, a text, a search's genotype.json
        channels=36,
        layers=20,
        num_classes=None,
        image_size=32,
        out_indices=(2,),
    ),
)
