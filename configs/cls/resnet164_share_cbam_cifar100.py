_base_ = "resnet164_org_cifar100.py"
model = dict(backbone=dict(attention=dict(type="CBAM", reduction=16)))
