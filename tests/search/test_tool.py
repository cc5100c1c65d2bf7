"""Algorithm 1 through tools/search.py: its files, its resume, its reuse of a supernet, and mistakes in one line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

from classification.datasets import build_dataset, load_images
from classification.toy_shapes import make_toy
from ean_core import ConnectionScheme
from ean_core.checkpoint import read_checkpoint
from ean_core.engine import SaveHook
from ean_core.files import read_json_lines
from ean_core.search.reward import Reward, build_reward
from ean_testing.fresh import run_two_ranks
from ean_testing.runs import new_name

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "search" / "se_cifar100.py")
BLOCKS = (1, 1, 1)
HELD_OUT = 4
FILES = ("search.jsonl", "search_state.pth", "scheme.json", "search.png", "importance.png")
OPTIONS = [
    "model.backbone.depth=11",
    "image_size=16",
    f"held_out={HELD_OUT}",
    "train_dataloader.batch_size=12",
    "val_dataloader.batch_size=10",
    "train_cfg.max_epochs=2",
    "optim_wrapper.optimizer.lr=0.05",
]
FOLLOWER = """
import torch
from ean_core.strategies.random_ import Random


class Follower(Random):
    needs_gate_loss = True

    def __init__(self, blocks, *, seed, loss):
        super().__init__(blocks, seed)
        self.loss, self.calls = loss, 0

    def notes(self, schemes):
        gates = torch.full((sum(self.blocks),), 0.5, requires_grad=True)
        (slope,) = torch.autograd.grad(self.loss(gates, self.calls), gates)
        self.calls += 1
        return [{"slope": float(slope.abs().sum())}] * len(schemes)


class Half:
    def __init__(self, blocks, seed):
        pass

    def ask(self, n):
        return []
"""
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of ten training images; the test images are damaged, so that reading them would fail."""
    root = make_toy(tmp_path_factory.mktemp("data"), "cifar100", train=10, test=3)
    (root / "cifar-100-python" / "test").write_bytes(b"no pickle")
    return root


@pytest.fixture(scope="module")
def search(tool: Callable, data: Path, light: None) -> Run:
    """``search(work_dir, *arguments)``: a tiny run of tools/search.py; arguments may end with more config options."""
    main = tool("search")

    def run(work_dir: Path, *more: str, root: Path = data, options: tuple[str, ...] = ()) -> Path:
        changes = ["--cfg-options", *OPTIONS, new_name(), *options]
        main([CONFIG, "--data-root", str(root), "--steps", "6", "--work-dir", str(work_dir), *more, *changes])
        return work_dir

    return run


@pytest.fixture(scope="module")
def finished(search: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a whole run; tests leave it as it is."""
    return search(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


@pytest.fixture(autouse=True)
def forget_images() -> Iterator[None]:
    yield
    load_images.cache_clear()


def contents(work_dir: Path) -> dict[str, bytes]:
    return {name: (work_dir / name).read_bytes() for name in (*FILES, "supernet/last.pth")}


def fail(capsys: pytest.CaptureFixture[str], run: Callable[[], object]) -> str:
    """The one line that a mistake prints."""
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    return err


@pytest.mark.parametrize("attention", ["se", "sge", "dia", "cbam", "eca"])
@pytest.mark.parametrize(
    ("data_name", "depth", "epochs", "steps"), [("cifar100", 164, 150, 1000), ("imagenet", 50, 40, 300)]
)
def test_configs(attention: str, data_name: str, depth: int, epochs: int, steps: int) -> None:
    """The authors' values, and a command to retrain that names the same network."""
    cfg = Config.fromfile(ROOT / "configs" / "search" / f"{attention}_{data_name}.py")
    assert (cfg.model.backbone.depth, cfg.train_cfg.max_epochs) == (depth, epochs)
    assert (cfg.search.steps, cfg.search.per_step, cfg.held_out) == (steps, 3, 100)
    assert (cfg.train_part, cfg.val_part, cfg.split_seed) == ("search_train", "search_val", None)
    assert build_reward(**cfg.search.reward) == Reward()
    sgd = cfg.optim_wrapper.optimizer
    assert (sgd.type, sgd.lr, sgd.momentum, sgd.weight_decay) == ("SGD", 0.1, 0.9, 1e-4)
    assert cfg.custom_hooks[-1] == {"type": "ean_core.search.SupernetHook"}
    assert cfg.model == Config.fromfile(ROOT / cfg.search.retrain).model


def test_accuracies_are_those_of_plain_networks(finished: Path, data: Path) -> None:
    """Every logged accuracy is that of the fixed network, evaluated on D_val by a plain loop."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.depth, cfg.model.num_classes = 11, 6
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(read_checkpoint(finished / "supernet" / "last.pth")["state_dict"])
    d_val = build_dataset(str(data), "search_val", "cifar100", 16, held_out=HELD_OUT)
    assert len(d_val) == 6 * HELD_OUT
    labels = d_val.labels.numpy()

    entries = read_json_lines(finished / "search.jsonl")
    assert len({entry["scheme"] for entry in entries}) > 3
    for entry in entries:
        model.backbone.set_scheme(entry["scheme"])
        with torch.no_grad():
            logits = model(**model.data_preprocessor({"inputs": d_val.images})).numpy()
        assert entry["accuracy"] == pytest.approx(100 * np.mean(logits.argmax(1) == labels), abs=1e-9)
        expected = entry["accuracy"] + 2 * ConnectionScheme.parse(entry["scheme"], BLOCKS).sparsity - 54
        assert entry["reward"] == pytest.approx(expected)
    assert len({entry["accuracy"] for entry in entries}) > 1


def test_validation_of_a_scheme_by_the_test_tool(finished: Path, tool: Callable, data: Path, tmp_path: Path) -> None:
    """tools/test.py on D_val, with the scheme fixed by --scheme, gives the accuracy in scheme.json."""
    result = json.loads((finished / "scheme.json").read_text())
    state = read_checkpoint(finished / "supernet" / "last.pth")["state_dict"]
    for i, stage in enumerate(ConnectionScheme.parse(result["scheme"], BLOCKS).stages):
        if not any(stage):  # a fixed network has no attention there
            state = {key: v for key, v in state.items() if not key.startswith(f"backbone.layer{i + 1}.attention")}
    torch.save({"state_dict": state}, tmp_path / "fixed.pth")
    config = str(ROOT / "configs" / "cls" / "resnet164_share_se_cifar100.py")
    arguments = ["--scheme", str(finished / "scheme.json"), "--data-root", str(data), "--work-dir", str(tmp_path)]
    options = ["test_part=search_val", "test_dataloader.batch_size=7", *OPTIONS, new_name()]
    tool("test")([config, str(tmp_path / "fixed.pth"), *arguments, "--cfg-options", *options])
    assert json.loads((tmp_path / "test.json").read_text())["top1"] == result["accuracy"]


def test_scheme_file_retrains(
    finished: Path, tool: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """tools/train.py accepts the scheme, and refuses it for another network."""
    scheme = ConnectionScheme.parse(str(finished / "scheme.json"), BLOCKS)
    assert (finished / "search.png").read_bytes().startswith(b"\x89PNG")
    root = make_toy(tmp_path, "cifar100", train=4, test=2)
    config = str(ROOT / "configs" / "cls" / "resnet164_share_se_cifar100.py")
    arguments = [config, "--scheme", str(finished / "scheme.json"), "--data-root", str(root), "--cfg-options"]
    arguments += [*OPTIONS, "train_cfg.max_epochs=1", "train_dataloader.batch_size=24"]
    tool("train")([*arguments, new_name(), "--work-dir", str(tmp_path / "run")])
    cfg = Config.fromfile(next((tmp_path / "run").rglob("resnet164_share_se_cifar100.py")))
    assert cfg.model.backbone.scheme == str(scheme)
    other = [*arguments, new_name(), "model.backbone.depth=20", "--work-dir", str(tmp_path / "other")]
    error = fail(capsys, lambda: tool("train")(other))
    assert f"scheme '{scheme}' does not fit: expected 6 bits, 2-2-2 a stage" in error


def test_resume(copied: Path, search: Run) -> None:
    """After the end it changes nothing; a search and a supernet that were cut short end with the same files."""
    before = contents(copied)
    assert contents(search(copied, "--resume")) == before

    short = search(copied, "--steps", "3")  # a new search on the same supernet
    assert len([e for e in read_json_lines(short / "search.jsonl") if not e.get("final")]) == 9
    assert {p.name for p in (copied / "previous").iterdir()} == set(FILES)
    after = contents(search(copied, "--resume"))
    assert {name: after[name] for name in FILES if name != "search_state.pth"} == {
        name: before[name] for name in FILES if name != "search_state.pth"
    }


def test_an_unfinished_supernet_is_continued(
    finished: Path, search: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: SaveHook, runner: object, *args: object, **kwargs: object) -> None:
        if runner.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SaveHook, "after_train_iter", interrupt)
        with pytest.raises(SystemExit) as stopped:
            search(tmp_path)
    assert stopped.value.code == 130
    assert read_checkpoint(tmp_path / "supernet" / "last.pth")["meta"]["epoch"] == 1
    search(tmp_path, "--resume")
    expected = read_checkpoint(finished / "supernet" / "last.pth")["state_dict"]
    for key, value in read_checkpoint(tmp_path / "supernet" / "last.pth")["state_dict"].items():
        assert torch.equal(value, expected[key]), key
    for name in ("search.jsonl", "scheme.json"):  # whose hash of the supernet is that of its weights
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize("strategy", ["random", "hsp", "genetic", "enas", "darts"])
def test_strategies_share_a_supernet(
    strategy: str, copied: Path, search: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    supernet = (copied / "supernet" / "last.pth").read_bytes()
    search(copied, "--strategy", strategy)
    result = json.loads((copied / "scheme.json").read_text())
    assert result["strategy"]["type"] == strategy
    ConnectionScheme.parse(result["scheme"], BLOCKS)
    assert (copied / "supernet" / "last.pth").read_bytes() == supernet


def test_a_strategy_of_ones_own(
    copied: Path, search: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A class found on the path; it is given the supernet's loss, for it says that it needs one."""
    (tmp_path / "follower.py").write_text(FOLLOWER)
    monkeypatch.syspath_prepend(tmp_path)
    before = contents(copied)
    error = fail(capsys, lambda: search(copied, "--strategy", "follower.Half"))
    assert "'follower.Half' is no search strategy: it lacks blocks, tell, best, state_dict, load_state_dict" in error
    assert contents(copied) == before
    search(copied, "--strategy", "follower.Follower")
    result = json.loads((copied / "scheme.json").read_text())
    assert result["strategy"] == {"type": "follower.Follower", "seed": 0}
    slopes = [entry["strategy"]["slope"] for entry in read_json_lines(copied / "search.jsonl") if entry["strategy"]]
    assert len(slopes) == 18
    assert len(set(slopes)) > 1  # of another batch in every step
    assert all(slopes)
    out = capsys.readouterr().out
    assert "already trained" in out
    assert f"ean train {Config.fromfile(CONFIG).search.retrain} --scheme {copied / 'scheme.json'}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"more": ["--strategy", "magic"]}, "unknown strategy 'magic': known are policy_gradient, random, hsp, "),
        ({"more": ["--scheme", "none"]}, "leave out --scheme"),
        ({"more": ["--steps", "0"]}, "at least one step"),
        ({"options": ["model.backbone.depth=20"]}, "model.backbone.depth was 11, is 20"),
        ({"options": ["search.strategy.temprature=1"]}, "temprature"),
        ({"more": ["--resume", "--strategy", "random"]}, "strategy changed"),
        ({"more": ["--resume"], "options": ["search.per_step=4"]}, "per_step changed"),
        ({"more": ["--resume"], "options": ["search.calibration=1"]}, "settings changed"),
    ],
)
def test_mistakes_leave_everything_as_it_was(
    copied: Path, search: Run, capsys: pytest.CaptureFixture[str], arguments: dict[str, list[str]], message: str
) -> None:
    before = contents(copied)
    error = fail(capsys, lambda: search(copied, *arguments.get("more", []), options=arguments.get("options", ())))
    assert message in error
    assert contents(copied) == before


def test_another_supernet(copied: Path, finished: Path, search: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint named in the config: it must fit, and a resumed search notices that it is another one."""
    checkpoint = read_checkpoint(finished / "supernet" / "last.pth")
    other = copied / "other.pth"
    torch.save({"state_dict": {k: v * 1.01 for k, v in checkpoint["state_dict"].items()}}, other)
    named = f"search.supernet={other}"
    assert "checkpoint changed" in fail(capsys, lambda: search(copied, "--resume", options=(named,)))
    error = fail(capsys, lambda: search(copied.parent / "new", options=(named, "model.backbone.depth=20")))
    assert "does not fit the model" in error
    search(copied.parent / "new", options=(named,))
    assert not (copied.parent / "new" / "supernet" / "last.pth").exists()
    assert json.loads((copied.parent / "new" / "scheme.json").read_text())["checkpoint"]


def test_a_front_is_reported(tool: Callable, data: Path, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, aims = copied.parent / "aims.py", 'dict(metric="accuracy"), dict(metric="connections", direction="down")'
    config.write_text(f'_base_ = "{CONFIG}"\nsearch = dict(reward=dict(_delete_=True, aims=[{aims}]))\n')
    options = ["search.strategy.type=genetic", "search.strategy.population=6", new_name()]
    arguments = ["--data-root", str(data), "--steps", "6", "--work-dir", str(copied)]
    tool("search")([str(config), *arguments, "--cfg-options", *OPTIONS, *options])
    front = json.loads((copied / "front.json").read_text())["front"]
    assert f"{len(front)} schemes that no other surpasses" in capsys.readouterr().out
    told = {e["scheme"]: (e["accuracy"], -e["scheme"].count("1")) for e in read_json_lines(copied / "search.jsonl")}

    def dominated(one: tuple[float, float]) -> bool:
        return any(a >= one[0] and b >= one[1] and (a, b) != one for a, b in told.values())

    assert {point["scheme"] for point in front} == {name for name, values in told.items() if not dominated(values)}
    for point in front:
        assert point["aims"] == {"accuracy": told[point["scheme"]][0], "connections": -told[point["scheme"]][1]}
        assert json.loads((copied / point["file"]).read_text())["scheme"] == point["scheme"]


def test_two_processes_write_the_log_of_one(finished: Path, data: Path, tmp_path: Path) -> None:
    """As under torchrun, each evaluates its share of a step; log and result are those of a single process."""
    arguments = ["--data-root", str(data), "--steps", "6", "--work-dir", str(tmp_path), "--launcher", "pytorch"]
    named = f"search.supernet={finished / 'supernet' / 'last.pth'}"
    ranks = run_two_ranks(ROOT / "tools" / "search.py", CONFIG, *arguments, "--cfg-options", *OPTIONS, named)
    assert [rank.status for rank in ranks] == [0, 0], ranks[0].err
    assert [rank.out.count("written") for rank in ranks] == [1, 0]  # one process speaks
    for name in ("search.jsonl", "scheme.json"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


KILLED = """
import os, runpy, signal, sys
from ean_core.search.evaluator import Evaluator

evaluate, calls = Evaluator.__call__, []

def kill(self, schemes):
    calls.append(1)
    if len(calls) == 3 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return evaluate(self, schemes)

Evaluator.__call__ = kill
sys.argv[0] = "tools/search.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_process_of_two_is_killed(finished: Path, data: Path, tmp_path: Path) -> None:
    """The other one does not wait for it for ever; both, started anew, end with the log of one that ran through."""
    arguments = ["--data-root", str(data), "--steps", "6", "--work-dir", str(tmp_path), "--launcher", "pytorch"]
    named = f"search.supernet={finished / 'supernet' / 'last.pth'}"
    options = [CONFIG, *arguments, "--cfg-options", *OPTIONS, named]
    (tmp_path / "killed.py").write_text(KILLED)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [*launch, str(tmp_path / "killed.py"), *options], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip
    assert ran.returncode != 0
    assert "bug: " not in ran.stderr
    whole = (finished / "search.jsonl").read_bytes()
    assert whole.startswith((tmp_path / "search.jsonl").read_bytes())
    ranks = run_two_ranks(ROOT / "tools" / "search.py", options[0], "--resume", *options[1:])
    assert [rank.status for rank in ranks] == [0, 0], ranks[0].err
    assert (tmp_path / "search.jsonl").read_bytes() == whole
    assert not [path for path in tmp_path.iterdir() if ".part" in path.name or ".run." in path.name]


def test_nothing_to_resume(search: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = fail(capsys, lambda: search(tmp_path / "new", "--resume"))
    assert "nothing to resume: " in error
    assert "has neither search_state.pth nor supernet/last.pth (start without --resume)" in error
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "line",
    ["3", "[]", "{}", '{"step": 1}', '{"step": 1, "index": 0, "scheme": 3, "reward": NaN, "key": ""}', "[" * 99_999],
)
def test_damaged_logs(copied: Path, search: Run, capsys: pytest.CaptureFixture[str], line: str) -> None:
    log = copied / "search.jsonl"
    first, _, *rest = log.read_text().splitlines()
    log.write_text("\n".join([first, line, *rest]) + "\n")
    before = contents(copied)
    assert f"line 2 of '{log}' is not" in fail(capsys, lambda: search(copied, "--resume"))
    assert contents(copied) == before


def test_calibration_and_folding(copied: Path, search: Run) -> None:
    """Renewed statistics give other accuracies; folded batch norms the same."""
    plain = {e["scheme"]: e["accuracy"] for e in read_json_lines(copied / "search.jsonl")}
    for option, same in (("search.fuse=False", True), ("search.calibration=2", False)):
        search(copied, options=(option,))
        found = {e["scheme"]: e["accuracy"] for e in read_json_lines(copied / "search.jsonl")}
        both = plain.keys() & found.keys()
        assert both
        assert all(plain[name] == found[name] for name in both) is same


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"owl": 8}, "holds a single class, 'owl'"),
        ({"owl": 8, "wren": 3}, "cannot hold out 4 images a class: class 'wren' has 3 training images"),
    ],
)
def test_folders_that_cannot_be_searched(
    tmp_path: Path, search: Run, capsys: pytest.CaptureFixture[str], classes: dict[str, int], message: str
) -> None:
    for name, number in classes.items():
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        for i in range(number):
            Image.new("RGB", (16, 16), (i, i, i)).save(tmp_path / "data" / "train" / name / f"{i}.png")
    assert message in fail(capsys, lambda: search(tmp_path / "run", root=tmp_path / "data"))


def test_a_corrupt_image_stops_before_anything_is_trained(
    tmp_path: Path, search: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("owl", "wren"):
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (16, 16), (i, i, i)).save(tmp_path / "data" / "train" / name / f"{i}.png")
    damaged = tmp_path / "data" / "train" / "wren" / "5.png"
    damaged.write_bytes(damaged.read_bytes()[:50])
    (tmp_path / "data" / "test" / "owl").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(tmp_path / "data" / "test" / "owl" / "0.png")
    error = fail(capsys, lambda: search(tmp_path / "run", root=tmp_path / "data"))
    assert f"1 image of 16 cannot be read, first '{damaged}'" in error
    assert not (tmp_path / "run" / "supernet" / "last.pth").exists()
