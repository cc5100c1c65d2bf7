_base_ = "org_regnet_imagenet.py"
# From pretrained weights, with a tenth of the learning rate for them; attention starts as the identity.
model = dict(
    backbone=dict(
        network=dict(weights="torchvision://regnet_x_400mf"),
        attention=dict(type="SE", reduction=4),
        start="identity",
    ),
)
optim_wrapper = dict(
    optimizer=dict(lr=0.02),
    paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=0.1), "backbone.plugged": dict(lr_mult=1)}),
)
train_cfg = dict(max_epochs=20)
toy = dict(model=dict(backbone=dict(network=dict(weights=None))))
