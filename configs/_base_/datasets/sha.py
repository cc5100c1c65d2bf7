# ShanghaiTech part A: dense crowds, images of all sizes. Kernels follow the distance between heads.
_base_ = "shb.py"
part = "A"
train_dataloader = dict(
    dataset=dict(
        part=part,
        augment=dict(crop=(384, 512)),
        density=dict(_delete_=True, type="adaptive", k=3, beta=0.3, floor=1, cap=15),
    )
)
val_dataloader = dict(dataset=dict(part=part))
test_dataloader = dict(dataset=dict(part=part))
toy = dict(train_dataloader=dict(dataset=dict(density=dict(_delete_=True, cap=4))))
