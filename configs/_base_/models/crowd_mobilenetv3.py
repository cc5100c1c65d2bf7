# torchvision's MobileNetV3-Large, dilated to 1/8, in the place of the ResNet-50. It has 10 residual branches,
# 1-1-2-3-1-2 a stage; its last layer, 960 channels for a classifier, is left out.
_base_ = "crowd_resnet50.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="ean_core.Plugged",
        network=dict(type="torchvision", name="mobilenet_v3_large", out=("features.15",), output_stride=8),
    ),
)
