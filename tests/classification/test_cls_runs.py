"""Runs of the tools on classification configs: training, exact resume, testing, and mistakes in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from classification.datasets import load_images
from ean_core.checkpoint import read_checkpoint
from ean_core.files import read_json_lines
from ean_testing.runs import interrupt

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "cls" / "resnet164_share_se_cifar100.py")
Tool = Callable[[str], Callable[[list[str]], None]]
Arguments = list[str]
ITERATIONS = 3  # of an epoch


@pytest.fixture
def arguments(shapes: Path, small: list[str]) -> Arguments:
    return [CONFIG, "--data-root", str(shapes), "--cfg-options", *small]


@pytest.fixture
def train(tool: Tool, arguments: Arguments) -> Callable[..., Path]:
    main = tool("train")

    def run(work_dir: Path, *more: str) -> Path:
        main([*arguments, *more, "--work-dir", str(work_dir)])
        return work_dir

    return run


def weights(work_dir: Path, name: str = "last.pth") -> dict[str, torch.Tensor]:
    return read_checkpoint(work_dir / name)["state_dict"]


def test_resume_is_exact(tmp_path: Path, train: Callable[..., Path]) -> None:
    """Interrupted in the second epoch and resumed: the same losses and weights to the last bit."""
    through = train(tmp_path / "through")
    losses = [e["loss"] for e in read_json_lines(through / "history.jsonl") if e["mode"] == "train"]
    assert len(set(losses)) == len(losses) == 3 * ITERATIONS
    interrupt(lambda: train(tmp_path / "stopped"), ITERATIONS + 1)
    resumed = train(tmp_path / "stopped", "--resume")
    for name in ("history.jsonl", "metrics.json"):
        assert (resumed / name).read_text() == (through / name).read_text()
    expected = weights(through)
    for key, value in weights(resumed).items():
        assert torch.equal(value, expected[key]), key


def test_test_tool(
    tmp_path: Path, tool: Tool, arguments: Arguments, train: Callable[..., Path], shapes: Path, capsys
) -> None:
    """tools/test.py gives the accuracy of a plain loop, with folded norms too; --tta differs, --show-dir is refused."""
    train(tmp_path)
    checkpoint = str(tmp_path / "best.pth")
    record = {}
    for flags in ([], ["--fuse"], ["--tta"]):
        tool("test")([arguments[0], checkpoint, *arguments[1:], *flags, "--work-dir", str(tmp_path)])
        record[" ".join(flags)] = json.loads((tmp_path / "test.json").read_text())

    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.depth, cfg.model.num_classes = 11, 6
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(weights(tmp_path, "best.pth"))
    source = load_images(str(shapes), "cifar100", "test", 16)
    with torch.no_grad():
        batch = {"inputs": torch.from_numpy(source.items), "labels": torch.from_numpy(source.labels)}
        logits = model(**model.data_preprocessor(batch)).numpy()
    right = [int(np.argmax(row) == label) for row, label in zip(logits, source.labels, strict=True)]
    assert record[""]["top1"] == pytest.approx(100 * np.mean(right))
    assert record[""]["top1"] == json.loads((tmp_path / "metrics.json").read_text())["best"]["top1"]
    assert record["--fuse"]["top1"] == record[""]["top1"]
    assert sum(row["images"] for row in record[""]["per class"].values()) == len(right) == 18
    assert 0 <= record["--tta"]["top1"] <= record["--tta"]["top5"] <= 100

    with pytest.raises(SystemExit) as stopped:
        tool("test")([arguments[0], checkpoint, *arguments[1:], "--show-dir", str(tmp_path / "show")])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: --show-dir: classification draws no pictures\n"


def test_a_folder_read_file_by_file(tmp_path: Path, tool: Tool, write_images: Callable[..., None]) -> None:
    """The ImageNet config on somebody's folder: D_train and D_val, files decoded in a worker."""
    write_images(tmp_path / "data", owl=8, wren=9)
    options = [
        "model.backbone.depth=18",
        "image_size=32",
        "train_dataloader.batch_size=5",
        "train_dataloader.num_workers=1",
        "val_dataloader.num_workers=0",
        "train_cfg.max_epochs=1",
        "model.label_smoothing=0.1",
        "train_part=search_train",
        "val_part=search_val",
        "held_out=2",
    ]
    config = CONFIG.replace("resnet164_share_se_cifar100", "resnet50_share_se_imagenet")
    tool("train")(
        [config, "--data-root", str(tmp_path / "data"), "--work-dir", str(tmp_path / "run"), "--cfg-options", *options]
    )
    assert set(json.loads((tmp_path / "run" / "metrics.json").read_text())["best"]) >= {"top1", "top5"}
    assert weights(tmp_path / "run")["head.fc.weight"].shape == (2, 512)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("one class", "holds a single class, 'owl'"),
        ("empty", "holds no class folders"),
        ("no images", "wren' holds no images"),
        ("corrupt", "1 image of 10 cannot be read, first "),
        ("split", "cannot hold out 100 images a class: class 'owl' has 5 training images; set held_out to 4 or less"),
        ("missing", "does not exist"),
        ("attention", "SEE"),
        ("smoothing", "label_smoothing must lie in [0, 1), got 2"),
    ],
)
def test_mistakes_end_in_one_line(
    tmp_path: Path, tool: Tool, write_images: Callable[..., None], capsys, case: str, message: str
) -> None:
    root, options = tmp_path / "data", ["model.backbone.depth=11", "train_cfg.max_epochs=1"]
    root.mkdir()
    if case != "empty":
        write_images(root / "train", owl=5)
        if case != "one class":
            write_images(root / "train", wren=0 if case == "no images" else 5)
        write_images(root / "val", owl=2)
    if case == "corrupt":
        path = root / "train" / "wren" / "003.png"
        path.write_bytes(path.read_bytes()[:50])
    options += {
        "split": ["train_part=search_train", "val_part=search_val"],
        "attention": ["model.backbone.attention.type=SEE"],
        "smoothing": ["model.label_smoothing=2"],
    }.get(case, [])
    where = str(tmp_path / "nowhere" if case == "missing" else root)
    with pytest.raises(SystemExit) as stopped:
        tool("train")([CONFIG, "--data-root", where, "--work-dir", str(tmp_path / "run"), "--cfg-options", *options])
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
