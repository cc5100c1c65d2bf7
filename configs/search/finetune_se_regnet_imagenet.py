_base_ = "se_regnet_imagenet.py"
# The network's weights come pretrained and stay as they are; a few epochs train attention and classifier alone.
model = dict(
    backbone=dict(network=dict(weights="torchvision://regnet_x_400mf"), frozen=True, start="identity"),
)
optim_wrapper = dict(optimizer=dict(lr=0.02), clip_grad=dict(max_norm=5.0))
train_cfg = dict(max_epochs=5)
search = dict(retrain="configs/cls/finetune_se_regnet_imagenet.py")
toy = dict(model=dict(backbone=dict(network=dict(weights=None))), train_cfg=dict(max_epochs=5))
