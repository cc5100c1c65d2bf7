_base_ = "resnet50_org_imagenet.py"
model = dict(backbone=dict(attention=dict(type="CBAM", reduction=16)))
