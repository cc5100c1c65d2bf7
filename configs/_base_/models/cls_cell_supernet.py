# The supernet of Att-DARTS for 32x32 images: 8 cells of 16 channels, 8 operations and 6 attentions on every edge.
_base_ = "cls_resnet164.py"
model = dict(
    num_classes=10,  # follows the data
    backbone=dict(
        _delete_=True,
        type="ean_core.CellSupernet",
        num_classes=None,
        channels=16,
        layers=8,
        partial=1,  # PC-DARTS: one of 4 channels go through the candidates
        image_size=32,
        out_indices=(2,),
    ),
)
