"""What a user does in a folder of their own: MMSegmentation's own config and MMEngine's own runner, one dict changed.

Run by tests/swap/test_mmseg.py from an empty folder, and by .ci/run with the packages installed from the wheel:

    python outside.py VOC_FOLDER
"""

import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import mmseg  # noqa: E402
import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

assert "ean_core" not in sys.modules
configs = Path(mmseg.__file__).parent / ".mim" / "configs"
cfg = Config.fromfile(configs / "pspnet" / "pspnet_r50-d8_4xb4-20k_voc12aug-512x512.py")

# The swap.
cfg.model.pretrained = None  # it names weights of the network that is replaced
cfg.model.backbone = dict(
    type="ean_core.EANResNet",
    depth=50,
    attention=dict(type="SE", reduction=16),
    scheme="010-0010-110011-001",
    out_indices=(0, 1, 2, 3),
    strides=(1, 2, 1, 1),
    dilations=(1, 1, 2, 4),
)

# A schedule of two iterations on small images.
cfg.work_dir = "run"
cfg.model.data_preprocessor.size = (64, 64)
cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=2, val_interval=2)
cfg.default_hooks.checkpoint.update(interval=2, save_optimizer=False)
for part in ("train", "val", "test"):
    loader = cfg[f"{part}_dataloader"]
    loader.update(num_workers=0, persistent_workers=False, batch_size=2 if part == "train" else 1)
    loader.dataset.pop("datasets", None)
    loader.dataset.update(
        type="PascalVOCDataset",
        data_root=sys.argv[1],
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        ann_file=f"ImageSets/Segmentation/{'train' if part == 'train' else 'val'}.txt",
        pipeline=cfg.train_pipeline if part == "train" else cfg.test_pipeline,
    )
    for step in loader.dataset.pipeline:
        if step["type"] in ("RandomResize", "Resize"):
            step["scale"] = (64, 64)
        elif step["type"] == "RandomCrop":
            step["crop_size"] = (64, 64)
        elif step["type"] == "Pad":
            step["size"] = (64, 64)

runner = Runner.from_cfg(cfg)
before = {name: value.clone() for name, value in runner.model.state_dict().items()}
runner.train()
backbone = runner.model.backbone
changed = {name for name, value in runner.model.named_parameters() if not torch.equal(value, before[name])}
attention = {name for name, _ in runner.model.named_parameters() if ".attention." in name}
saved = torch.load("run/iter_2.pth", weights_only=False)["state_dict"]
assert attention, "no attention in the model"
assert attention <= changed, "attention that was not trained"
assert attention <= set(saved), "attention that was not saved"
metrics = runner.test()
print("mIoU", metrics["mIoU"])
print("scheme", backbone.scheme, "from", Path(sys.modules["ean_core"].__file__).parent)
