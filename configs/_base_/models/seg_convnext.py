# torchvision's ConvNeXt-Tiny, in the place of the ResNet-50 and at output stride 32, under any of the heads. It has 18
# residual branches, 3-3-9-3 a stage.
_base_ = "seg_resnet50.py"
head = "upernet"
_undilated = dict(backbone=dict(_delete_=True))
heads = dict(
    psp=_undilated,
    fcn=_undilated,
    deeplabv3=_undilated,
    deeplabv3plus=_undilated,
    upernet=_undilated,
)
model = dict(
    backbone=dict(
        _delete_=True,
        type="ean_core.Plugged",
        network=dict(type="torchvision", name="convnext_tiny"),
    ),
)
