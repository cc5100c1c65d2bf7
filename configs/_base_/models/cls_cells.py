# The network of a genotype for 32x32 images: 20 cells of 36 channels, 3.2 M parameters with the published cell.
model = dict(
    type="ImageClassifier",
    num_classes=10,  # follows the data
    auxiliary=0.4,
    data_preprocessor=dict(
        type="ImagePreprocessor",
        mean=[125.307, 122.961, 113.8575],  # CIFAR-10's, in 0..255
        std=[51.5865, 50.847, 51.255],
        padding=4,
        flip=0.5,
        cutout=16,
    ),
    backbone=dict(
        type="ean_core.CellNetwork",
        genotype="att-darts",  # or --genotype: darts-v2, a text, a search's genotype.json
        channels=36,
        layers=20,
        num_classes=None,
        image_size=32,
        out_indices=(2,),
    ),
)
tta_model = dict(type="FlipTTA")
