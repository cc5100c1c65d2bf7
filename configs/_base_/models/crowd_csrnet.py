# CSRNet's front end, VGG-16's first ten convolutions with three poolings, in the place of the ResNet-50. A point lies
# behind each activation, 2-2-3-3 a stage; without attention it is CSRNet itself.
_base_ = "crowd_resnet50.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="ean_core.Plugged",
        network=dict(type="torchvision", name="vgg16", out=("features.22",)),
        points=dict(type="named", match=r"features\.(1|3|6|8|11|13|15|18|20|22)"),
    ),
)
