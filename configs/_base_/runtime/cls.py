default_scope = "mmengine"
custom_imports = dict(imports=["ean_core.engine", "classification.classifier", "classification.metric"])
randomness = dict(seed=0)
env_cfg = dict(cudnn_benchmark=True)
default_hooks = dict(
    timer=dict(type="ean_core.engine.SteadyTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="ean_core.engine.SaveHook", metric="top1"),
)
custom_hooks = [
    dict(type="SyncBuffersHook"),
    dict(type="ean_core.engine.ReseedHook"),
    dict(type="ean_core.engine.HistoryHook", metric="top1"),
    dict(type="ean_core.engine.ProgressHook", metric="top1"),
]
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
