# torchvision's RegNetX-400MF. It has 22 residual branches, 1-2-7-12 a stage, behind which attention can be plugged.
model = dict(
    type="ImageClassifier",
    num_classes=1000,  # follows the data
    data_preprocessor=dict(
        type="ImagePreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(
        type="ean_core.Plugged",
        network=dict(type="torchvision", name="regnet_x_400mf", out_indices=(4,)),
    ),
)
tta_model = dict(type="FlipTTA")
