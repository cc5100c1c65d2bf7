default_scope = "mmseg"
custom_imports = dict(imports=["ean_core.engine", "segmentation.transforms", "segmentation.metric"])
randomness = dict(seed=0)
env_cfg = dict(cudnn_benchmark=True)
default_hooks = dict(
    timer=dict(type="ean_core.engine.SteadyTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="ean_core.engine.SaveHook", metric="mIoU"),
)
custom_hooks = [
    dict(type="SyncBuffersHook"),
    dict(type="ean_core.engine.ReseedHook"),
    dict(type="ean_core.engine.HistoryHook", metric="mIoU"),
    dict(type="segmentation.visualize.PreviewHook"),
    dict(type="ean_core.engine.ProgressHook", metric="mIoU"),
]
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
