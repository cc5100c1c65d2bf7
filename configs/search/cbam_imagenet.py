_base_ = "../_base_/search/imagenet.py"
model = dict(backbone=dict(attention=dict(type="CBAM", reduction=16)))
search = dict(retrain="configs/cls/resnet50_share_cbam_imagenet.py")
