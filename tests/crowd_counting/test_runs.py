"""Runs of the tools on crowd configs: training, exact resume, testing, and mistakes in one line."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

from crowd_counting.dataset import find_split
from crowd_counting.points import read_points
from ean_core.checkpoint import read_checkpoint
from ean_core.files import read_json_lines
from ean_core.images import read_image
from ean_testing.runs import interrupt

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "crowd" / "ean_se_shb.py")
Tool = Callable[[str], Callable[[list[str]], None]]
ITERATIONS = 4  # of an epoch: nine images by twos
OPTIONS = [
    "model.backbone.depth=18",
    "head=conv1x1",
    "train_dataloader.batch_size=2",
    "train_dataloader.num_workers=0",
    "val_dataloader.num_workers=0",
    "test_dataloader.num_workers=0",
    "train_cfg.max_epochs=2",
    "train_cfg.val_interval=1",
    "train_dataloader.dataset.augment.crop=(48,56)",
    "train_dataloader.dataset.density.sigma=4",
    "optim_wrapper.optimizer.lr=1e-3",
    "custom_hooks.2.interval=1",
]


@pytest.fixture(scope="session")
def arguments(toy_crowd: Path) -> list[str]:
    return [CONFIG, "--data-root", str(toy_crowd), "--scheme", "10-01-11-00", "--cfg-options", *OPTIONS]


@pytest.fixture(scope="session")
def train(tool: Tool, arguments: list[str], light: None) -> Callable[..., Path]:
    main = tool("train")

    def run(work_dir: Path, *more: str) -> Path:
        main([*arguments, *more, "--work-dir", str(work_dir)])
        return work_dir

    return run


@pytest.fixture(scope="session")
def through(train: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a whole run; tests leave it as it is."""
    return train(tmp_path_factory.mktemp("through") / "run")


def weights(work_dir: Path, name: str = "last.pth") -> dict[str, torch.Tensor]:
    return read_checkpoint(work_dir / name)["state_dict"]


def test_a_run_and_its_files(through: Path) -> None:
    names = {path.name for path in through.iterdir() if path.is_file()}
    assert names == {
        "best.pth", "last.pth", "history.jsonl", "metrics.json", "curves.png", "preview.png", "environment.json",
        "ean_se_shb.py",
    }  # fmt: skip
    lines = read_json_lines(through / "history.jsonl")
    losses = [line["loss"] for line in lines if line["mode"] == "train"]
    assert len(set(losses)) == len(losses) == 2 * ITERATIONS
    values = [line["MAE"] for line in lines if line["mode"] == "val"]
    metrics = json.loads((through / "metrics.json").read_text())
    assert metrics["best"]["MAE"] == min(values)  # less is better
    assert read_checkpoint(through / "best.pth")["meta"]["epoch"] == 1 + int(np.argmin(values))
    # 54 bits, of which the fourth stage's are not used: no parameter of it is there
    assert not any("layer4" in key for key in weights(through))


def test_resume_is_exact(tmp_path: Path, train: Callable[..., Path], through: Path) -> None:
    """Interrupted in the second epoch and resumed: the same losses, metrics and weights to the last bit."""
    interrupt(lambda: train(tmp_path / "stopped"), ITERATIONS + 1)
    resumed = train(tmp_path / "stopped", "--resume")
    for name in ("history.jsonl", "metrics.json"):
        assert (resumed / name).read_text() == (through / name).read_text()
    for name in ("last.pth", "best.pth"):
        expected = weights(through, name)
        for key, value in weights(resumed, name).items():
            assert torch.equal(value, expected[key]), key
    moments = [read_checkpoint(run / "last.pth")["optimizer"]["state"] for run in (through, resumed)]
    for key, state in moments[0].items():
        assert torch.equal(state["exp_avg"], moments[1][key]["exp_avg"])


def test_the_test_tool(tmp_path: Path, tool: Tool, arguments: list[str], through: Path, toy_crowd: Path) -> None:
    """tools/test.py gives the errors of a plain loop, with folded norms and in tiles too, and the files it promises."""
    checkpoint = str(through / "best.pth")
    record = {}
    runs = {"": [], "fused": ["--fuse"], "tiled": ["inference=tiled", "tiling.tile=64", "tiling.overlap=32"]}
    for name, more in runs.items():
        show = ["--show-dir", str(tmp_path / "show"), "--save-density", str(tmp_path / "maps")] if not name else []
        work_dir = tmp_path / (name or "plain")
        tool("test")([arguments[0], checkpoint, *arguments[1:], *more, *show, "--work-dir", str(work_dir)])
        record[name] = json.loads((work_dir / "test.json").read_text())

    (path,) = through.glob("*.py")
    model = MODELS.build(Config.fromfile(path).model).eval()
    model.load_state_dict(weights(through, "best.pth"))
    samples = find_split(toy_crowd, "B", "test")
    people = [len(read_points(sample.annotation)) for sample in samples]
    with torch.no_grad():
        counts = [
            float(model.predict(torch.from_numpy(read_image(s.image)).permute(2, 0, 1)[None]).sum()) for s in samples
        ]
    errors = np.array(counts) - people
    assert record[""]["MAE"] == pytest.approx(np.abs(errors).mean(), rel=1e-4)
    assert record[""]["MSE (RMSE)"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-4)
    assert record[""]["by region"]["all"]["GAME0"] == pytest.approx(record[""]["MAE"])
    assert record["fused"]["MAE"] == pytest.approx(record[""]["MAE"], rel=1e-3)
    assert record["tiled"]["MAE"] != record[""]["MAE"]
    mean = np.mean([len(read_points(sample.annotation)) for sample in find_split(toy_crowd, "B", "train")])
    assert record[""]["MAE of mean"] == pytest.approx(np.abs(mean - np.array(people)).mean())
    assert sum(entry["images"] for entry in record[""]["by crowd size"].values()) == 4

    with (tmp_path / "plain" / "counts.csv").open() as file:
        table = list(csv.DictReader(file))
    worst = np.argsort(-np.abs(errors))
    assert [Path(line["image"]).stem for line in table] == [samples[i].image.stem for i in worst]
    assert [float(line["count"]) for line in table] == pytest.approx([counts[i] for i in worst], abs=0.02)
    pictures = sorted(path.name for path in (tmp_path / "plain" / "worst").iterdir())
    assert pictures == [f"{rank:02}-{samples[i].image.name}.png" for rank, i in enumerate(worst, 1)]
    assert {path.stem for path in (tmp_path / "show").iterdir()} == {sample.image.name for sample in samples}

    maps = {path.name for path in (tmp_path / "maps").iterdir()}
    assert maps == {f"{sample.image.name}{ending}" for sample in samples for ending in (".npy", ".png")}
    for sample, count in zip(samples, counts, strict=True):
        saved = np.load(tmp_path / "maps" / f"{sample.image.name}.npy")
        assert saved.shape == (12, 16)
        assert float(saved.sum()) == pytest.approx(count, rel=1e-4)
    within = record[""]["localisation"]["within 8 px"]
    assert 0 <= within["recall"] <= 1
    assert within["precision"] is None or 0 <= within["precision"] <= 1


def test_predicting_a_region_a_film_and_densities(tmp_path: Path, tool: Tool, through: Path, toy_crowd: Path) -> None:
    """The table, the picture and the curve of a polygon's people; the saved map has the count."""
    image = next((toy_crowd / "part_B_final" / "test_data" / "images").iterdir())
    frame = read_image(image)
    film = cv2.VideoWriter(str(tmp_path / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5, frame.shape[1::-1])
    for shift in range(6):
        film.write(np.ascontiguousarray(np.roll(frame, 8 * shift, 1)[..., ::-1]))
    film.release()
    line = [str(through / "best.pth"), str(image), str(tmp_path / "film.mp4"), "--out", str(tmp_path / "out")]
    tool("predict")([*line, "--region", "0,0 64,0 64,96 0,96", "--save-density", "--batch", "4"])
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    density = np.load(tmp_path / "out" / f"{image.name}-density.npy")
    assert float(rows[0]["count"]) == pytest.approx(float(density.sum()), abs=0.006)
    assert float(rows[0]["in_region"]) == pytest.approx(float(density[:, :8].sum()), abs=0.006)
    with Image.open(tmp_path / "out" / f"{image.name}-density.png") as picture:
        units = float(picture.info["units_per_person"])
        assert np.asarray(picture).astype(float).sum() / units == pytest.approx(float(density.sum()), abs=1e-3)
    with (tmp_path / "out" / "film.mp4-over-time.csv").open() as file:
        frames = list(csv.DictReader(file))
    assert [list(row) for row in frames] == [["frame", "seconds", "count", "in_region"]] * 6
    assert [row["seconds"] for row in frames] == [f"{0.2 * i:.1f}" for i in range(6)]
    assert [row["count"] for row in frames] == [row["count"] for row in rows[1:]]
    with Image.open(tmp_path / "out" / "film.mp4-over-time.png") as picture:
        assert picture.width > 600


def test_mistakes_in_regions(tmp_path: Path, tool: Tool, through: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        tool("predict")([str(through / "best.pth"), "x.jpg", "--out", str(tmp_path), "--region", "1,2 3,4"])
    assert capsys.readouterr().err.startswith("error: --region takes three or more corners")


def test_one_epoch_of_ones_own_data_with_mixed_precision(tmp_path: Path, tool: Tool, own: Path, light: None) -> None:
    """Part A's config on .csv points: crops of one size from images smaller than they are, images without people."""
    config = CONFIG.replace("ean_se_shb", "share_sge_sha")
    own_options = [option for option in OPTIONS if "sigma" not in option]
    options = [*own_options, "train_cfg.max_epochs=1", "model.loss.count_weight=0.01", "output_stride=4"]
    places = ["--data-root", str(own), "--work-dir", str(tmp_path / "run")]
    tool("train")([config, "--amp", *places, "--cfg-options", *options])
    assert np.isfinite(json.loads((tmp_path / "run" / "metrics.json").read_text())["best"]["MAE"])


def break_data(root: Path, case: str) -> None:
    train = root / "part_B_final" / "train_data"
    image, points = sorted(train.glob("images/*.jpg"))[0], sorted(train.glob("*/*.mat"))[0]
    if case == "no annotation":
        points.unlink()
    elif case == "no image":
        image.unlink()
    elif case == "corrupt":
        image.write_bytes(image.read_bytes()[:-200])
    elif case == "not mat":
        points.write_text("x y")
    elif case == "outside":
        with Image.open(image) as picture:
            picture.crop((0, 0, 1, 1)).save(image)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no annotation", "has no annotation"),
        ("no image", "has no image"),
        ("corrupt", "truncated"),
        ("not mat", "GT_IMG_1.mat"),
        ("outside", "outside"),
        ("diverged", "the training has diverged. Lower optim_wrapper.optimizer.lr"),
    ],
)
def test_mistakes_end_with_a_message(
    tmp_path: Path, tool: Tool, arguments: list[str], toy_crowd: Path, light: None, capsys, case: str, message: str
) -> None:
    root = Path(shutil.copytree(toy_crowd, tmp_path / "data"))
    break_data(root, case)
    more = ["optim_wrapper.optimizer.type=SGD", "optim_wrapper.optimizer.lr=1e30"] if case == "diverged" else []
    line = [arguments[0], "--data-root", str(root), *arguments[3:], *more, "--work-dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        tool("train")(line)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in out + err
    if case == "diverged":
        assert err.count("\n") == 1
