"""A fourth task, in the user's own package: docs/own_task.md as it stands, through the tools."""

import csv
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ean_core.checkpoint import read_checkpoint
from ean_core.files import read_json_lines
from ean_core.inference import load
from ean_core.inference.predictor import Predictor
from ean_testing.documents import documents, files
from ean_testing.runs import new_name

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., None]
SHORTEST = ("train_cfg.max_epochs=1",)
CONFIG, CHECKPOINT = MODEL = ("work_dirs/my_depth/my_depth.py", "work_dirs/my_depth/best.pth")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The document's files; the current folder, where Python looks for modules too."""
    place = tmp_path_factory.mktemp("own")
    (place / "configs").symlink_to(ROOT / "configs")
    for name, text in files(documents()["docs/own_task.md"]).items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(place)
        yield place
    for name in [name for name in sys.modules if name.split(".")[0] in ("depth", "named")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def run(folder: Path, tool: Callable, light: None) -> Run:
    """``run(tool, *arguments, options=...)`` runs a tool on a config, with generated data and a short schedule."""

    def start(name: str, config: str, *arguments: str, options: tuple[str, ...] = ()) -> None:
        changes = ["train_cfg.max_epochs=2", "train_cfg.val_interval=1", new_name(), *options]
        tool(name)([config, *arguments, "--toy", "--cfg-options", *changes])

    return start


@pytest.fixture(scope="module")
def trained(run: Run) -> Predictor:
    """The network of a short training."""
    run("train", "my_depth.py")
    return load(*MODEL)


def error_of(model: Predictor, part: str) -> float:
    """The mean absolute error over all pixels of a part, in a plain loop over images and their predictions."""
    total = pixels = 0.0
    for path in sorted(Path("data/toy/rooms", part).glob("*.png")):
        predicted, truth = model(path).depth, np.load(path.with_suffix(".npy"))
        assert predicted.shape == truth.shape
        total += float(np.abs(predicted.astype(np.float64) - truth).sum())
        pixels += truth.size
    return total / pixels


def test_the_package_is_short() -> None:
    texts = files(documents()["docs/own_task.md"])
    lines = {name: len([line for line in text.splitlines() if line.strip()]) for name, text in texts.items()}
    assert set(lines) == {
        "depth/network.py", "depth/application.py", "depth/toy.py", "my_depth.py", "my_depth_search.py"
    }  # fmt: skip
    assert max(lines.values()) <= 70


def test_training_and_test(trained: Predictor, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    best = json.loads(Path("work_dirs/my_depth/metrics.json").read_text())["best"]
    assert best["MAE"] == pytest.approx(error_of(trained, "val"), rel=1e-5)
    run("test", "my_depth.py", CHECKPOINT)
    measured = json.loads(Path("work_dirs/my_depth/test.json").read_text())["MAE"]
    assert measured == pytest.approx(error_of(trained, "test"), rel=1e-5)
    out = capsys.readouterr().out
    assert f"ean predict {CONFIG} {CHECKPOINT}" in out  # the checkpoint's own config is not read


def test_prediction(trained: Predictor, tool: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 50, 3), np.uint8)).save("photo.png")
    tool("predict")([*MODEL, "photo.png", "data/toy/rooms/val", "--out", "predictions"])
    with open("predictions/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert Image.open("predictions/photo.png.png").size == (8 * 2 * 50, 8 * 33)  # enlarged, the depth beside the image
    for row in rows:
        depth = trained(row["image"]).depth
        assert [float(row[name]) for name in ("min", "mean", "max")] == pytest.approx(
            [depth.min(), depth.mean(), depth.max()], abs=1e-3
        )
    with pytest.raises(SystemExit):
        tool("predict")([CHECKPOINT, "photo.png", "--out", "predictions"])
    assert "of the task 'depth'" in capsys.readouterr().err  # naming it would import code


def test_gradcam(trained: Predictor, tool: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pytorch_grad_cam")
    from ean_core.analysis.gradcam import explain

    path = Path("data/toy/rooms/test/00.png")
    picture = np.asarray(Image.open(path))
    found = explain(trained, picture)
    assert np.array_equal(found.seen, picture)
    assert found.heat.shape == picture.shape[:2]
    assert found.score == pytest.approx(trained(path).depth.mean(), rel=1e-5)
    tool("gradcam")([str(path), "--model", *MODEL, "--out", "cam.png"])
    assert f"my_depth/best: {found.answer}" in capsys.readouterr().out
    assert Path("cam.png").is_file()


def test_search(run: Run, folder: Path) -> None:
    """Every scheme's error is that of the network fixed to it, predicting image by image."""
    run("search", "my_depth_search.py", "--steps", "3", options=SHORTEST)
    work = folder / "work_dirs" / "my_depth_search"
    model = load("my_depth_search.py", work / "supernet" / "last.pth")
    entries = read_json_lines(work / "search.jsonl")
    for entry in {entry["scheme"]: entry for entry in entries}.values():
        model.model.backbone.set_scheme(entry["scheme"])
        assert entry["MAE"] == pytest.approx(error_of(model, "val"), rel=1e-4)
        assert entry["reward"] == pytest.approx(entry["sparsity"] - 10 * entry["MAE"])
    best = max(entries, key=lambda entry: entry["reward"])
    assert json.loads((work / "scheme.json").read_text())["scheme"] == best["scheme"]
    retrained = folder / "retrained"
    run("train", "my_depth.py", "--scheme", str(work / "scheme.json"), "--work-dir", str(retrained), options=SHORTEST)
    found = load(retrained / "my_depth.py", retrained / "last.pth").model.backbone.scheme
    assert str(found) == best["scheme"]


def test_mistakes(run: Run, trained: Predictor, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(folder / "data" / "toy" / "rooms", folder / "mine")
    for i in range(12):
        (copy / "train" / f"{i:02}.npy").unlink()
    (folder / "named").mkdir()
    (folder / "named" / "application.py").write_text(
        "from ean_core.application import Application\n"
        "class Named(Application):\n"
        "    name = 'named'\n"
        "application = Named()\n"
    )
    named = ("task=named", *(f"{part}_dataloader.dataset.root=data/toy/rooms" for part in ("train", "val", "test")))
    run("train", "my_depth.py", "--work-dir", "work_dirs/named", options=named)  # a name is enough
    run("test", "my_depth.py", "work_dirs/named/best.pth", "--work-dir", "work_dirs/named", options=named)
    capsys.readouterr()
    for arguments, options, message in (
        (("train", "my_depth.py", "--data-root", "mine"), (), "12 problems with the 24 images of mine/train; add the"),
        (("train", "my_depth.py", "--data-root", "nowhere"), (), "there is no 'nowhere/train/*.png': name another"),
        (("train", "my_depth.py"), ("task=dpeth",), "unknown task 'dpeth': there is no module 'dpeth.application'"),
        (
            ("search", "my_depth_search.py", "--work-dir", "work_dirs/none"),
            named,
            "the task 'named' offers no search: its application lacks the method 'evaluation' (docs/own_task.md",
        ),
        (("search", "my_depth_search.py"), ("custom_hooks=[]",), "trains no supernet: add dict("),
    ):
        with pytest.raises(SystemExit) as stopped:
            run(*arguments, options=options)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    assert not (folder / "work_dirs" / "none").exists()  # nothing was trained
    assert read_checkpoint(CHECKPOINT)["state_dict"].keys() == trained.model.state_dict().keys()  # nor replaced
