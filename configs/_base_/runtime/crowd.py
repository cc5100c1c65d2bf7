default_scope = "mmengine"
custom_imports = dict(imports=["ean_core.engine"])
randomness = dict(seed=0)
env_cfg = dict(cudnn_benchmark=False)  # part A's images all differ in size
val_evaluator = dict(type="crowd_counting.metric.CrowdMetric")
test_evaluator = val_evaluator
default_hooks = dict(
    timer=dict(type="ean_core.engine.SteadyTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="ean_core.engine.SaveHook", metric="MAE", rule="less"),
)
custom_hooks = [
    dict(type="SyncBuffersHook"),
    dict(type="ean_core.engine.ReseedHook"),
    dict(type="ean_core.engine.HistoryHook", metric="MAE", rule="less", unit="people", apart=dict(NAE="NAE")),
    dict(type="crowd_counting.visualize.PictureHook"),
    dict(type="ean_core.engine.ProgressHook", metric="MAE"),
]
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
