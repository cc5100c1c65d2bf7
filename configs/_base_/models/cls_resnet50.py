# ResNet-50 with biased convolutions, as in the authors' ImageNet code (25.584 M parameters with 1000 classes). The
# biases are folded away, exactly, where a checkpoint is loaded into a backbone without them; for --pretrained weights
# that have none, such as torchvision's, set model.backbone.conv_bias=False.
model = dict(
    type="ImageClassifier",
    num_classes=1000,  # follows the data
    data_preprocessor=dict(
        type="ImagePreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(type="ean_core.EANResNet", depth=50, conv_bias=True),
)
tta_model = dict(type="FlipTTA")
