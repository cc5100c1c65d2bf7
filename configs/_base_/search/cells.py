# The search of cells: the authors' values (those of DARTS); docs/cells.md explains every option.
search = dict(
    type="cells",
    architecture_optimizer=dict(type="Adam", lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3),
    order=1,  # 2 unrolls a step of the weights, as DARTS's second order: 5 passes an iteration instead of 2
    warmup=0,  # first epochs in which the weights alone learn; PC-DARTS takes 15 of 50
    selection="argmax",  # or "perturbation": the loss without each candidate, measured
    max_skips=2,  # skip connections that "argmax" leaves in the normal cell, as in P-DARTS; None: any number
    stop=dict(
        skips=None,  # end once the normal cell has more skip connections than this, and take the epoch before (DARTS+)
        patience=None,  # end once the genotype has not changed for so many epochs
        after=10,  # these first epochs do not count for the two
    ),
    perturbation=dict(
        images=None,  # images of D_val that measure; None: all
        tune=0,  # iterations behind each decision
    ),
    operations=None,  # the candidates; None: the supernet's own, all eight of DARTS
    attentions=None,  # None: none, SE, BAM, CBAM, GE, A2; ["none"] is plain DARTS, ["CBAM"] puts CBAM on every edge
    val_dataset=dict(augment=True),  # D_val teaches the architecture as D_train does the weights: with augmentation
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.025, momentum=0.9, weight_decay=3e-4),
    clip_grad=dict(max_norm=5.0),  # of the weights' gradient alone
)
param_scheduler = [dict(type="CosineAnnealingLR", eta_min=0.001, begin=0, end=50, by_epoch=True)]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=50, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
