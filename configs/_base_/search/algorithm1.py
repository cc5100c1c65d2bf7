# The search itself, with the authors' values; each strategy's options and their sources are in its docstring.
search = dict(
    strategy=dict(type="policy_gradient"),  # or random, hsp, genetic, enas, darts
    steps=1000,
    per_step=3,
    # Also aims=[dict(metric="accuracy"), dict(metric="connections", direction="down")]: their Pareto front is written.
    reward=dict(terms=[dict(metric="accuracy"), dict(metric="sparsity", weight=2.0)], offset=-54.0),
    calibration=0,  # this many batches of D_train renew the batch norms' statistics for every scheme; 0: as stored
    latency_repeats=0,  # above 0: also measure "latency" by as many passes, for a reward that contains it
    latency="candidate",  # measured for each; "table": for each block, once, and summed over a scheme's blocks
    fuse=True,  # fold batch norms: faster, and the same up to rounding; not done with calibration
    channels_last=False,
    memory=2.0,  # GiB for what the first blocks give, which is kept from step to step; 0: none
    supernet=None,  # the last.pth of a supernet that was trained elsewhere
)
