# The supernet of Att-DARTS for 32x32 images: 8 cells of 16 channels, 8 operations and 6 attentions on every edge.
model = dict(
    type="ImageClassifier",
    num_classes=10,  # follows the data
    data_preprocessor=dict(
        type="ImagePreprocessor",
        mean=[125.307, 122.961, 113.8575],  # CIFAR-10's, in 0..255
        std=[51.5865, 50.847, 51.255],
        padding=4,
        flip=0.5,
    ),
    backbone=dict(
        type="ean_core.CellSupernet",
        num_classes=None,
        channels=16,
        layers=8,
        partial=1,  # PC-DARTS: one of 4 channels go through the candidates
        image_size=32,
        out_indices=(2,),
    ),
)
