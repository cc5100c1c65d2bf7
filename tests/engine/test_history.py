"""history.jsonl, curves.png and metrics.json."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from ean_core.engine import HistoryHook
from ean_core.figures import save_figure
from ean_core.figures.training_curves import training_curves
from ean_core.figures.training_curves import training_curves as DRAW
from ean_core.files import read_json_lines


class FakeRun(SimpleNamespace):
    """As much of a runner as the hook looks at: epochs of ``iterations``, each with one validation."""

    def __init__(self, work_dir: Path, iterations: int = 4) -> None:
        super().__init__(work_dir=str(work_dir), iter=0, epoch=0, train_dataloader=range(iterations))
        self.optim_wrapper = SimpleNamespace(get_lr=lambda: {"lr": [0.1]})

    def train(self, hook: HistoryHook, losses: list[float], score: float) -> None:
        """One epoch."""
        hook.before_train_epoch(self)
        for index, loss in enumerate(losses):
            hook.after_train_iter(self, index, outputs={"loss": torch.tensor(loss)})
            self.iter += 1
        if len(losses) == len(self.train_dataloader):
            self.epoch += 1
            hook.after_val_epoch(self, {"score": score})


def record(work_dir: Path, scores: list[float], rule: str = "greater") -> HistoryHook:
    """The history of a whole run with these validation scores."""
    hook, run = HistoryHook("score", rule=rule, interval=2), FakeRun(work_dir)
    hook.before_train(run)
    for score in scores:
        run.train(hook, [1.0, 2.0, 3.0, 5.0], score)
    hook.after_train(run)
    return hook


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    # it is slow, and has its own test
    monkeypatch.setattr("ean_core.figures.training_curves.training_curves", lambda *_: None)


def test_lines(tmp_path):
    record(tmp_path, [7.0])
    assert read_json_lines(tmp_path / "history.jsonl") == [
        {"mode": "train", "epoch": 1, "iter": 2, "loss": 1.5, "lr": 0.1},  # the mean since the line before
        {"mode": "train", "epoch": 1, "iter": 4, "loss": 4.0, "lr": 0.1},
        {"mode": "val", "epoch": 1, "iter": 4, "score": 7.0},
    ]


def test_resume_cuts_what_lies_after_the_checkpoint(tmp_path):
    hook = record(tmp_path, [1.0, 2.0])
    through = (tmp_path / "history.jsonl").read_text()
    run = FakeRun(tmp_path)
    run.iter, run.epoch = 8, 2
    hook.before_train(run)
    run.train(hook, [9.0, 9.0, 9.0], 0)  # killed in the third epoch
    assert (tmp_path / "history.jsonl").read_text() != through

    run.iter, run.epoch = 8, 2
    hook.before_train(run)
    assert (tmp_path / "history.jsonl").read_text() == through

    run.iter, run.epoch = 4, 1
    hook.before_train(run)
    assert [entry["iter"] for entry in read_json_lines(tmp_path / "history.jsonl")] == [2, 4, 4]


def test_a_new_run_starts_a_new_file(tmp_path):
    hook = record(tmp_path, [1.0, 2.0])
    hook.before_train(FakeRun(tmp_path))
    assert (tmp_path / "history.jsonl").read_text() == ""


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path):
    hook = record(tmp_path, [1.0])
    path = tmp_path / "history.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"mode": "train", "ep')
    assert len(read_json_lines(path)) == 3
    run = FakeRun(tmp_path)
    run.iter, run.epoch = 4, 1
    hook.before_train(run)
    assert path.read_text() == whole


def test_no_history_is_an_empty_one(tmp_path):
    assert read_json_lines(tmp_path / "history.jsonl") == []


@pytest.mark.parametrize(
    ("rule", "scores", "best"),
    [
        ("greater", [1.0, 3.0, 2.0], 2),
        ("less", [3.0, 1.0, 2.0], 2),
        ("greater", [math.nan, 1.0, math.nan], 2),
        ("less", [math.nan, 2.0, 1.0], 3),
        ("greater", [2.0, 2.0, math.inf], 1),  # the first of equals; infinite is no score
    ],
)
def test_metrics_name_the_best_and_the_last(tmp_path, rule, scores, best):
    record(tmp_path, scores, rule)
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["metric"] == "score"
    assert summary["best"] == {"mode": "val", "epoch": best, "iter": 4 * best, "score": scores[best - 1]}
    assert summary["last"]["epoch"] == 3


def test_no_metrics_without_a_finite_score(tmp_path):
    record(tmp_path, [math.nan])
    assert not (tmp_path / "metrics.json").exists()


def test_a_validation_without_training_writes_nothing(tmp_path):
    HistoryHook("score").after_val_epoch(FakeRun(tmp_path), {"score": 1.0})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scores", [[1.0], [1.0, math.nan, 3.0]])
def test_curves_are_a_picture(tmp_path, scores):
    record(tmp_path, scores)
    save_figure(DRAW(read_json_lines(tmp_path / "history.jsonl"), "score"), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 2 * picture.height
        picture.load()
        assert len(picture.convert("RGB").getcolors(100_000)) > 50


def test_nothing_is_drawn_of_nothing():
    assert DRAW([], "score") is None


def test_a_metric_of_another_unit_has_an_axis_of_its_own() -> None:
    """A relative error of 0.2 beside one of 80 people would lie on the zero line."""
    train = [{"mode": "train", "epoch": 1, "iter": 5, "loss": 1.0, "lr": 0.1}]
    val = [{"mode": "val", "epoch": k, "iter": 5 * k, "MAE": 80.0 / k, "NAE": 0.2 / k} for k in (1, 2)]
    figure = training_curves([*train, *val], "MAE", "people", {"NAE": "NAE", "absent": "x"})
    assert figure is not None
    _, right, _, other = figure.axes
    assert [line.get_label() for line in right.get_lines()] == ["MAE"]
    assert [line.get_label() for line in other.get_lines()] == ["NAE"]
    assert list(other.get_lines()[0].get_ydata()) == [0.2, 0.1]
    assert (right.get_ylabel(), other.get_ylabel()) == ("people", "NAE (broken line)")
    assert [text.get_text() for text in other.get_legend().get_texts()] == ["MAE", "NAE"]
