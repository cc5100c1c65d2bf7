# torchvision's RegNetX-400MF. It has 22 residual branches, 1-2-7-12 a stage, behind which attention can be plugged.
_base_ = "cls_resnet50.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="ean_core.Plugged",
        network=dict(type="torchvision", name="regnet_x_400mf", out_indices=(4,)),
    ),
)
