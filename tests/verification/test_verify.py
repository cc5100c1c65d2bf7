"""tools/verify.py: paired trainings that resume, what they are compared by, and what is refused."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from mmengine.config import Config
from scipy import stats

from classification.datasets import load_images
from classification.toy_shapes import make_toy
from ean_core.engine import ReseedHook
from ean_core.engine.models import build_model
from ean_core.figures import save_figure
from ean_core.figures.verdict import draw_verdict
from ean_core.scale import Outcome
from ean_core.verification import runs as verify_runs
from ean_core.verification import verify as module
from ean_core.verification.report import summarise, table, verdict
from ean_core.verification.runs import train_one
from ean_testing.runs import new_name

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "search" / "se_cifar100.py")
SIZE = ["model.backbone.depth=11", "image_size=16"]
SEARCH = [
    *SIZE,
    "held_out=4",
    "train_dataloader.batch_size=12",
    "val_dataloader.batch_size=10",
    "train_cfg.max_epochs=1",
]
TRAINING = ["train_dataloader.batch_size=12", "train_cfg.max_epochs=2", "optim_wrapper.optimizer.lr=0.05"]
NAMES = ["found", "plain", "share-full", "org-full", "random1"]


class Inline:
    """An engine that works in this process, one task after the other.

    Args:
        tasks: After so many the user presses Ctrl-C; ``None``: never.
        fails: Folders of runs that fail.
    """

    workers = 1

    def __init__(self, tasks: int | None = None, fails: Sequence[str] = ()) -> None:
        self.tasks, self.fails = tasks, fails
        self.done: list[str] = []

    def run(self, function: str, arguments: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        home, _, name = function.partition(":")
        for index, own in enumerate(arguments):
            if self.tasks is not None and len(self.done) == self.tasks:
                raise KeyboardInterrupt
            folder = Path(own["folder"]).name
            self.done.append(folder)
            if folder in self.fails:
                yield Outcome(index, None, "out of memory")
            else:
                yield Outcome(index, getattr(import_module(home), name)(**own))


@pytest.fixture(scope="module")
def searched(tool: Callable, light: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a finished search among three blocks; tests leave it as it is."""
    root = make_toy(tmp_path_factory.mktemp("data"), "cifar100", train=10, test=5)
    folder = tmp_path_factory.mktemp("search")
    words = ["--data-root", str(root), "--work-dir", str(folder), "--steps", "2", "--strategy", "random"]
    tool("search")([CONFIG, *words, "--cfg-options", *SEARCH, new_name()])
    result = json.loads((folder / "scheme.json").read_text())
    (folder / "scheme.json").write_text(json.dumps({**result, "scheme": "1-0-1"}))  # one with others beside it
    load_images.cache_clear()
    return folder


Verify = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def verify(tool: Callable, light: None) -> Verify:
    """``verify(folder, engine, *arguments)``: the tool with one random scheme and two seeds; the written summary."""
    main = tool("verify")

    def run(folder: Path, engine: Inline, *more: str, options: Sequence[str] = ()) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "engine_of", lambda *_: engine)
            patch.setattr(module, "seconds_of_a_run", lambda *_: 1.0)
            patch.setattr("ean_core.verification.costs.REPEATS", 2)
            patch.setattr("ean_core.figures.training_curves.training_curves", lambda *_: None)  # takes its time
            words = ["--random", "1", "--seeds", "2"] if "--budget" not in more else []
            main([str(folder), *words, *more, "--cfg-options", *TRAINING, *options])
        return json.loads((folder / "verify.json").read_text())

    return run


@pytest.fixture(scope="module")
def verified(searched: Path, verify: Verify, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder after a whole verification; tests leave it as it is."""
    folder = Path(shutil.copytree(searched, tmp_path_factory.mktemp("verified") / "search"))
    verify(folder, Inline())
    return folder


def refused(capsys: pytest.CaptureFixture[str], run: Callable[[], object]) -> str:
    """The one line that a mistake prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_tables_and_tests(verified: Path) -> None:
    result = json.loads((verified / "verify.json").read_text())
    rows = list(csv.DictReader((verified / "verify.csv").open()))
    assert [(row["contestant"], row["seed"]) for row in rows] == [(name, seed) for name in NAMES for seed in "01"]
    values = {name: [float(row["top1"]) for row in rows if row["contestant"] == name] for name in NAMES}
    for row in result["contestants"]:
        assert row["mean"] == pytest.approx(np.mean(values[row["name"]]))
        assert row["increment"] > -100
        assert (row["increment"] == 0) == (row["name"] == "plain")
    random = next(row for row in result["contestants"] if row["name"] == "random1")
    assert random["density"] == result["contestants"][0]["density"]
    others = {row["other"]: row for row in result["differences"]}
    assert list(others) == ["plain", "share-full", "org-full", "random"]
    for name, row in others.items():
        own = values["random1" if name == "random" else name]
        assert row["mean"] == pytest.approx(np.mean(values["found"]) - np.mean(own))
        if row["p"] is not None:
            assert row["p"] == pytest.approx(stats.ttest_rel(values["found"], own).pvalue)
    for row in rows:  # on the test images, of which there are thirty
        assert float(row["top1"]) * 30 / 100 == pytest.approx(round(float(row["top1"]) * 30 / 100))
    assert imread(verified / "verify.png").std() > 0.05
    assert result["verdict"][0].startswith("VERDICT: ")
    assert sorted(path.parent.name for path in (verified / "verify").glob("*/last.pth")) == [
        "found-seed0",
        "found-seed1",
    ]
    assert result["correlation"] is None or set(result["correlation"]["schemes"]) <= {row["scheme"] for row in rows}


def test_the_trainings_follow_the_search(verified: Path) -> None:
    cfg = Config.fromfile(verified / "verify" / "config.py")
    assert (cfg.model.backbone.depth, cfg.image_size, cfg.train_part) == (11, 16, "train")
    assert cfg.model.backbone.scheme == json.loads((verified / "scheme.json").read_text())["scheme"]
    assert cfg.train_dataloader.dataset.root == Config.fromfile(verified / "config.py").train_dataloader.dataset.root
    assert not [hook for hook in cfg.custom_hooks if "Supernet" in str(hook.type)]
    assert cfg.param_scheduler[0]["end"] == 2


def test_a_finished_verification_does_nothing(verified: Path, verify: Verify, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(verified, tmp_path / "copy"))
    engine = Inline()
    assert verify(folder, engine)["runs"] == json.loads((verified / "verify.json").read_text())["runs"]
    assert engine.done == []
    verify(folder, engine, "--random", "2", "--seeds", "1")
    assert engine.done == ["random2-seed0"]


def test_a_constant_mask_as_control(verified: Path, verify: Verify, tmp_path: Path) -> None:
    """The same function as smaller last norms, and no part of the correlation with the supernet."""
    folder, engine = Path(shutil.copytree(verified, tmp_path / "copy")), Inline()
    result = verify(folder, engine, "--constant", "0.5")
    assert engine.done == ["constant-0.5-seed0", "constant-0.5-seed1"]
    own = next(row for row in result["contestants"] if row["name"] == "constant-0.5")
    assert (own["scheme"], own["n"]) == (result["contestants"][0]["scheme"], 2)
    assert [row["other"] for row in result["differences"]] == [
        "plain",
        "share-full",
        "org-full",
        "constant-0.5",
        "random",
    ]
    assert result["correlation"] == json.loads((verified / "verify.json").read_text())["correlation"]

    cfg = Config.fromfile(verified / "verify" / "config.py")
    plain = build_model(cfg).backbone.eval()
    verify_runs.change_backbone(cfg.model, own["backbone"])
    damped, x = build_model(cfg).backbone.eval(), torch.rand(2, 3, 16, 16)
    state = {name: value for name, value in plain.state_dict().items() if "attention" not in name}
    damped.load_state_dict(state)
    plain.set_scheme("none")
    for stage, bit in zip(plain.stages, own["scheme"].split("-"), strict=True):
        if bit == "1":
            stage.blocks[0].bn3.weight.data *= 0.5
            stage.blocks[0].bn3.bias.data *= 0.5
    assert torch.equal(damped(x)[0], plain(x)[0])


def test_stopped_and_given_again(verified: Path, verify: Verify, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(verified, tmp_path / "search"))
    for name in ("org-full-seed0", "random1-seed0", "plain-seed1"):
        shutil.rmtree(folder / "verify" / name)
    with pytest.raises(SystemExit) as stopped:
        verify(folder, Inline(tasks=1))
    assert stopped.value.code == 130
    assert len(list(csv.DictReader((folder / "verify.csv").open()))) == 8
    later = Inline(fails=["random1-seed0"])
    result = verify(folder, later)
    assert later.done == ["random1-seed0", "plain-seed1"]
    assert "failed: random1, seed 0: out of memory" in result["verdict"]
    assert next(row["n"] for row in result["differences"] if row["other"] == "random") == 1
    again = Inline()
    whole, parts = json.loads((verified / "verify.json").read_text()), verify(folder, again)
    assert again.done == ["random1-seed0"]  # a failed run is tried again
    assert [run["metrics"] for run in parts["runs"]] == [run["metrics"] for run in whole["runs"]]
    assert parts["differences"] == whole["differences"]


def arguments(verified: Path, folder: Path, name: str) -> dict[str, Any]:
    result = json.loads((verified / "verify.json").read_text())
    backbones = {row["name"]: row["backbone"] for row in result["contestants"]}
    config = str(verified / "verify" / "config.py")
    own, plain = backbones[name], backbones["plain"]
    return {"config": config, "folder": str(folder / f"{name}-seed1"), "seed": 1, "backbone": own, "reference": plain}


def test_a_run_that_is_killed_resumes(verified: Path, light: None, tmp_path: Path) -> None:
    wanted = json.loads((verified / "verify" / "found-seed1" / "result.json").read_text())
    own = arguments(verified, tmp_path, "found")

    def stop(self: ReseedHook, runner: Any, *args: object, **kwargs: object) -> None:
        if runner.iter == 7:  # in the second epoch, of five iterations
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReseedHook, "after_train_iter", stop)
        with pytest.raises(KeyboardInterrupt):
            train_one(**own)
    found = train_one(**own)
    assert found["metrics"] == wanted["metrics"]
    assert found["seconds"] is None
    assert train_one(**own) == found


def test_the_same_start_and_the_same_images(verified: Path, light: None, tmp_path: Path) -> None:
    begun: dict[str, dict[str, torch.Tensor]] = {}
    batches: dict[str, list[int]] = {}

    def note(self: ReseedHook, runner: Any, batch_idx: int, data_batch: Any = None, **_: object) -> None:
        name = Path(runner.work_dir).name
        if runner.iter == 0:
            begun[name] = {key: value.clone() for key, value in runner.model.state_dict().items()}
        batches.setdefault(name, []).append(int(data_batch["inputs"].long().sum()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReseedHook, "before_train_iter", note)
        for name in ("plain", "found", "org-full"):
            train_one(**arguments(verified, tmp_path, name))
    plain, found, full = (begun[f"{name}-seed1"] for name in ("plain", "found", "org-full"))
    assert set(plain) < set(full)
    for other in (found, full):
        assert all(torch.equal(plain[key], other[key]) for key in plain)
    assert batches["plain-seed1"] == batches["found-seed1"] == batches["org-full-seed1"]
    # Without the hook a network with attention begins elsewhere.
    cfg = Config.fromfile(verified / "verify" / "config.py")
    states = []
    for changes in ({"attention": None, "scheme": "full"}, {"scheme": "full", "sharing": "block"}):
        own = Config(cfg.to_dict())
        own.model.backbone.update(changes)
        torch.manual_seed(1)
        states.append(build_model(own).state_dict())
    assert not all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_calibration_foresees_a_run(verified: Path, light: None, tmp_path: Path) -> None:
    own = arguments(verified, tmp_path, "found")
    seconds = verify_runs.calibrate(**own)
    assert 0 < seconds < 120
    assert not (tmp_path / "found-seed1" / "result.json").exists()


def test_what_is_refused(searched: Path, verify: Verify, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def copy(*without: str) -> Path:
        folder = Path(shutil.copytree(searched, tmp_path / str(len(list(tmp_path.iterdir())))))
        for name in without:
            (folder / name).unlink()
        return folder

    engine = Inline()
    for folder, more, message in (
        (tmp_path / "none", [], "does not exist"),
        (copy("scheme.json"), [], "is not finished"),
        (copy("scheme.json", "search_state.pth"), [], "holds no finished search"),
        (copy("config.py"), [], "give the command of the search again with --resume"),
        (copy(), ["--budget", "7s"], "the budget of 7.0 s is too small: 2 seeds of 4 networks take about 8.0 s"),
        (copy(), ["--budget", "soon"], "--budget takes a duration"),
        (copy(), ["--seeds", "0"], "--seeds at least 1"),
        (copy(), ["--schemes", "1-1"], "does not fit"),
        (copy(), ["--constant", "0"], "--constant takes a mask, a positive factor such as 0.5, got 0.0"),
        (copy(), ["--config", str(ROOT / "configs/cls/att_darts_cifar10.py")], "found a connection scheme"),
        (copy(), ["--config", str(ROOT / "configs/cls/resnet164_org_cifar100.py")], "has no attention"),
    ):
        root = Config.fromfile(searched / "config.py").train_dataloader.dataset.root
        more = [*more, "--data-root", root] if "--config" in more else more
        assert message in refused(capsys, lambda folder=folder, more=more: verify(folder, engine, *more))
        assert not list(folder.glob("verify*/*-seed*"))
    folder = copy()
    lines = (folder / "search.jsonl").read_text()
    (folder / "search.jsonl").write_text(lines + lines.splitlines()[0] + "\n")  # continued with more steps
    assert "is not finished" in refused(capsys, lambda: verify(folder, engine))
    assert engine.done == []


def test_images_that_the_search_has_seen(
    searched: Path, verify: Verify, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(searched, tmp_path / "search"))
    text = refused(capsys, lambda: verify(folder, Inline(), options=["test_part=search_val", "held_out=2"]))
    assert "12 of the 12 test images are in D_val" in text
    assert not (folder / "verify").exists()


def test_a_budget_stays_what_it_was(verified: Path, verify: Verify, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(verified, tmp_path / "copy"))
    (folder / "verify" / "plan.json").write_text(
        json.dumps({"wishes": {"budget": 60.0, "random": None, "seeds": None, "fixed": 4}, "random": 1, "seeds": 2})
    )
    engine = Inline()
    verify(folder, engine, "--budget", "1m")  # of one second a run it would buy more by now
    assert engine.done == []


def test_other_settings_in_the_same_folder(
    verified: Path, verify: Verify, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(verified, tmp_path / "copy"))
    text = refused(capsys, lambda: verify(folder, Inline(), options=["train_cfg.max_epochs=3"]))
    assert "train_cfg.max_epochs was 2, is 3" in text


def contestant(name: str, group: str, scheme: str) -> Any:
    from ean_core.verification.plan import Contestant

    return Contestant(name, group=group, scheme=scheme, density=0.5, backbone={})


def test_the_verdict_of_known_numbers(tmp_path: Path) -> None:
    who = [contestant("found", "found", "110"), contestant("plain", "reference", "000")]
    who += [contestant("share-full", "reference", "111"), contestant("101", "chosen", "101")]
    who += [contestant(f"random{i}", "random", f"{i}") for i in range(1, 5)]
    generator = np.random.default_rng(0)
    levels = {"found": 30.0, "plain": 40.0, "share-full": 30.2, "101": 33.0} | {
        f"random{i}": 34.0 + i for i in range(1, 5)
    }
    runs = {(c.name, seed): levels[c.name] + generator.normal(0, 0.5) for c in who for seed in range(4)}
    supernet = {c.scheme: -levels[c.name] for c in who}
    result = summarise(who, runs, better=-1, costs={}, supernet=supernet)
    words = verdict(result, "MAE", -1, ["plain, seed 9: no memory"])
    assert words[0].startswith("VERDICT: the scheme holds in part - better than plain, 101 and random (mean), no diff")
    assert "place 1 of 5 among random schemes of the same density" in words
    assert result["place"]["p"] == pytest.approx(1 / 5)
    assert result["correlation"]["pearson"] > 0.9  # a lower error where the supernet's score is better
    assert any("Welch" in line for line in words)
    means = [[np.mean([runs[name, s] for s in range(4)]) for name in names]
             for names in (("found", "101"), [f"random{i}" for i in range(1, 5)])]  # fmt: skip
    assert result["groups"]["p"] == pytest.approx(stats.ttest_ind(*means, equal_var=False).pvalue)
    assert words[-1] == "failed: plain, seed 9: no memory"
    up = verdict(summarise(who, runs, better=1, costs={}), "top1", 1)
    assert "the scheme does not hold" in up[0]
    assert "-" in table(result)["found"].values()
    near = {key: value for key, value in runs.items() if key[0] in ("found", "share-full")}
    open_ = verdict(summarise(who, near, better=-1, costs={}), "MAE", -1)
    assert open_[0] == "VERDICT: it is not shown that the scheme holds - no difference shown to share-full"
    whole = {key: value for key, value in runs.items() if key[0] != "share-full"}
    assert verdict(summarise(who, whole, better=-1, costs={}), "MAE", -1)[0].startswith("VERDICT: the scheme holds - ")
    drawn = {"metric": "MAE", "rule": "less", "verdict": words, **result}
    save_figure(draw_verdict(drawn), tmp_path / "a.png")
    save_figure(draw_verdict({**drawn, "correlation": None}), tmp_path / "b.png")
    one = summarise(who[:2], {("found", 0): 3.0}, better=1, costs={})
    assert verdict(one, "top1", 1)[0] == "VERDICT: open - there is nothing to test yet"
    save_figure(draw_verdict({**drawn, **one, "verdict": ["VERDICT: open"]}), tmp_path / "c.png")
    assert all(imread(tmp_path / f"{name}.png").std() > 0.04 for name in "abc")
