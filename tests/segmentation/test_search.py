"""A segmentation config as a supernet by one line, and Algorithm 1 with mIoU as its reward."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ean_core import ConnectionScheme
from ean_core.backbones.base import StagedBackbone
from ean_core.checkpoint import read_checkpoint
from ean_core.files import read_json_lines
from ean_core.search.supernet import sample_scheme
from ean_testing.runs import new_name
from segmentation.metric import count_logits, search_scores

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = (2, 2, 2, 2)
SUPERNET = 'custom_hooks = [*_base_.custom_hooks, dict(type="ean_core.search.SupernetHook")]\n'
SEARCH = """
search = dict(
    steps=4,
    reward=dict(_delete_=True, terms=[dict(metric="mIoU"), dict(metric="sparsity", weight=2.0)]),
)
"""
EPOCHS = 2


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A segmentation config and one more line; and with the search's entries as well."""
    folder = tmp_path_factory.mktemp("configs")
    base = (ROOT / "configs" / "seg" / "share_se_voc.py").as_posix()
    plan = (ROOT / "configs" / "_base_" / "search" / "algorithm1.py").as_posix()
    (folder / "supernet.py").write_text(f'_base_ = "{base}"\n{SUPERNET}')
    (folder / "search.py").write_text(f'_base_ = ["{base}", "{plan}"]\n{SUPERNET}{SEARCH}')
    return {name: str(folder / f"{name}.py") for name in ("supernet", "search")}


@pytest.fixture(scope="module")
def options(tiny: list[str]) -> list[str]:
    """Those of the other tiny runs, without their scheme."""
    at = tiny.index("--scheme")
    return [*tiny[:at], *tiny[at + 2 :], f"train_cfg.max_epochs={EPOCHS}"]


@pytest.fixture(scope="module")
def searched(tool: Callable, configs: dict, options: list, light: None, tmp_path_factory: pytest.TempPathFactory):
    """The work directory of a whole search."""
    work_dir = tmp_path_factory.mktemp("searched")
    tool("search")([configs["search"], *options, new_name(), "--work-dir", str(work_dir)])
    return work_dir


def test_one_line_makes_a_supernet(
    tool: Callable, configs: dict, options: list, light: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ConnectionScheme] = []
    forward = StagedBackbone.forward

    def record(self: StagedBackbone, x: torch.Tensor) -> object:
        if self.training:
            seen.append(self.scheme)
        return forward(self, x)

    monkeypatch.setattr(StagedBackbone, "forward", record)
    tool("train")([configs["supernet"], *options, new_name(), "--work-dir", str(tmp_path)])
    assert seen == [sample_scheme(BLOCKS, 0, i) for i in range(EPOCHS * 4)]
    assert len(set(seen)) > 4


def test_every_miou_is_that_of_the_fixed_network(
    searched: Path, tool: Callable, options: list, light: None, tmp_path: Path
) -> None:
    """tools/test.py on networks built with a scheme, from the supernet's weights."""
    entries = {entry["scheme"]: entry for entry in read_json_lines(searched / "search.jsonl")}
    assert len(entries) > 4
    for name, entry in list(entries.items())[:3]:
        scheme = ConnectionScheme.parse(name, BLOCKS)
        state = read_checkpoint(searched / "supernet" / "last.pth")["state_dict"]
        for i, stage in enumerate(scheme.stages):
            if not any(stage):  # a fixed network has no attention there
                state = {k: v for k, v in state.items() if not k.startswith(f"backbone.layer{i + 1}.attention")}
        torch.save({"state_dict": state}, tmp_path / "fixed.pth")
        arguments = ["--scheme", name, "--work-dir", str(tmp_path)]
        config = str(ROOT / "configs" / "seg" / "share_se_voc.py")
        tool("test")([config, str(tmp_path / "fixed.pth"), *options, new_name(), *arguments])
        tested = json.loads((tmp_path / "test.json").read_text())
        assert {key: entry[key] for key in ("mIoU", "mAcc", "aAcc")} == {
            key: pytest.approx(tested[key], rel=1e-9) for key in ("mIoU", "mAcc", "aAcc")
        }
        assert entry["reward"] == pytest.approx(tested["mIoU"] + 2 * scheme.sparsity)
    result = json.loads((searched / "scheme.json").read_text())
    assert result["reward"] == max(entry["reward"] for entry in entries.values())


def test_other_strategies_and_calibration(
    searched: Path, tool: Callable, configs: dict, options: list, tmp_path: Path
) -> None:
    """DARTS needs the gradient of the loss; renewed statistics change the scores."""
    more = [f"search.supernet={searched / 'supernet' / 'last.pth'}", "search.calibration=2"]
    arguments = [configs["search"], *options, new_name(), *more, "--strategy", "darts", "--work-dir", str(tmp_path)]
    tool("search")([*arguments, "--steps", "2"])
    before = {entry["scheme"]: entry["mIoU"] for entry in read_json_lines(searched / "search.jsonl")}
    after = {entry["scheme"]: entry["mIoU"] for entry in read_json_lines(tmp_path / "search.jsonl")}
    assert all(math.isfinite(value) for value in after.values())
    assert not any(before[name] == after[name] for name in before.keys() & after.keys())


def test_counts_against_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, generator=generator)
    masks = torch.randint(0, 3, (2, 5, 4), generator=generator).to(torch.uint8)
    masks[0, :2] = 255
    right, union, labelled = np.zeros(3), np.zeros(3), np.zeros(3)
    for n in range(2):
        for y in range(5):
            for x in range(4):
                label, predicted = int(masks[n, y, x]), int(logits[n, :, y, x].argmax())
                if label != 255:
                    labelled[label] += 1
                    right[label] += label == predicted
                    for k in {label, predicted}:
                        union[k] += 1
    count = partial(count_logits, align_corners=False)
    assert count(logits, masks).tolist() == [right.tolist(), union.tolist(), labelled.tolist(), [0, 0, 0]]
    whole = search_scores(count(logits, masks))
    assert whole["mIoU"] == pytest.approx(100 * np.mean(right / union))
    assert whole["mAcc"] == pytest.approx(100 * np.mean(right / labelled))
    assert whole["aAcc"] == pytest.approx(100 * right.sum() / labelled.sum())
    logits[0, 0, 0, 0] = math.nan  # even where the label does not count: such a network is broken
    assert all(math.isnan(value) for value in search_scores(count(logits, masks)).values())


def test_sliding_windows_are_refused(
    tool: Callable, configs: dict, options: list, searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [f"search.supernet={searched / 'supernet' / 'last.pth'}", "inference=slide", new_name()]
    with pytest.raises(SystemExit) as stopped:
        tool("search")([configs["search"], *options, *more, "--work-dir", str(tmp_path)])
    assert stopped.value.code == 2
    assert "set inference = 'whole'" in capsys.readouterr().err
