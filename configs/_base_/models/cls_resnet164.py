# ResNet-164 for 32x32 images (post-activation, bias-free: 1.727 M parameters with 100 classes).
model = dict(
    type="ImageClassifier",
    num_classes=100,  # follows the data
    data_preprocessor=dict(
        type="ImagePreprocessor",
        # CIFAR-10's values, which the authors' code uses for CIFAR-100 too, in 0..255
        mean=[125.307, 122.961, 113.8575],
        std=[51.5865, 50.847, 51.255],
        padding=4,
        flip=0.5,
    ),
    backbone=dict(type="ean_core.EANCifarResNet", depth=164),
)
tta_model = dict(type="FlipTTA")
