# Two schedules; `schedule` is the choice. What the entries at the end, a leaf config or the command line say of the
# same things goes before what the chosen schedule says.
schedules = dict(
    # The C3F code base: Adam 1e-5, times 0.995 an epoch, batch 6. Its limit is 3,000 epochs, stopped by hand; here 400.
    c3f=dict(
        batch_size=6,
        model=dict(head=dict(activation="softplus"), loss=dict(label_scale=100.0)),
        losses=dict(mse=dict(reduction="mean")),
        optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-5, weight_decay=1e-4)),
        param_scheduler=[dict(type="ExponentialLR", gamma=0.995, begin=0, end=400, by_epoch=True)],
        train_cfg=dict(max_epochs=400, val_interval=5),
    ),
    # CSRNet's own code: SGD 1e-7 on the sum of squares, batch 1, a linear output, 400 epochs at one rate.
    csrnet=dict(
        batch_size=1,
        model=dict(
            backbone=dict(norm_eval=True),  # batch norms keep the pretrained statistics: VGG-16 has none at all
            head=dict(activation="none"),
            loss=dict(label_scale=1.0),
        ),
        losses=dict(mse=dict(reduction="sum")),
        optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=1e-7, momentum=0.95, weight_decay=5e-4)),
        param_scheduler=[dict(type="ConstantLR", factor=1.0, begin=0, end=400, by_epoch=True)],
        train_cfg=dict(max_epochs=400, val_interval=5),
    ),
)
schedule = "c3f"

optim_wrapper = dict()
train_cfg = dict(type="EpochBasedTrainLoop")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
