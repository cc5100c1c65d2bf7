"""Pictures of schemes, and the numbers that are drawn from a search log."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from ean_core import ConnectionScheme
from ean_core.figures import BLUE, save_figure
from ean_core.figures.scheme_rows import Row, frequencies, log_rows, scheme_row, scheme_rows
from ean_core.inspect_scheme import draw_schemes

BLOCKS = (2, 3)


def entry(scheme: str, reward: float, step: int = 1, **more: object) -> dict:
    return {"step": step, "index": 0, "scheme": scheme, "reward": reward, "failed": False, **more}


def blue(path: Path) -> np.ndarray:
    """Where a picture has the blocks' blue."""
    colour = [int(BLUE[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return np.abs(imread(path)[:, :, :3] - colour).max(2) < 0.01


def squares(path: Path) -> list[list[int]]:
    """For each row of a picture with solid blue squares, their left edges in pixels."""
    mask = blue(path)
    bands = np.flatnonzero(np.diff(np.concatenate([[0], mask.sum(1) > 12, [0]])))
    rows = []
    for start, stop in zip(bands[::2], bands[1::2], strict=True):
        runs = np.flatnonzero(np.diff(np.concatenate([[0], mask[(start + stop) // 2], [0]])))
        wide = [int(a) for a, b in zip(runs[::2], runs[1::2], strict=True) if b - a > 12]
        rows += [wide] if stop - start > 12 and wide else []
    return rows


def filled(path: Path) -> list[int]:
    """How many each row has."""
    return [len(row) for row in squares(path)]


def test_a_blue_square_for_each_connected_block(tmp_path):
    texts = ["10-111", "01-000", "00-101"]
    rows = [scheme_row("", ConnectionScheme.parse(t, BLOCKS)) for t in texts]
    save_figure(scheme_rows(rows), tmp_path / "s.png", dpi=130)
    assert filled(tmp_path / "s.png") == [4, 1, 2]


def test_rows_are_aligned(tmp_path):
    """The same bits are blue in the same columns, whatever the other rows show."""
    scheme = ConnectionScheme.parse("01-100", BLOCKS)
    rows = [scheme_row("a title that is long", scheme), scheme_row("b", scheme)]
    save_figure(scheme_rows(rows), tmp_path / "s.png", dpi=130)
    first, second = squares(tmp_path / "s.png")
    assert len(first) == 2
    assert first == second


def test_resnet164_fits(tmp_path):
    draw_schemes(["paper/cifar100-se-a", "paper/cifar100-se-b"], tmp_path / "s.png")
    assert filled(tmp_path / "s.png") == [27, 20]
    assert imread(tmp_path / "s.png").shape[1] < 2400


def test_another_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match="2-3 and 3-2 blocks do not fit one picture"):
        scheme_rows([Row("", blocks=BLOCKS), Row("", blocks=(3, 2))])
    with pytest.raises(ValueError, match="does not fit: expected 54 bits"):
        draw_schemes(["paper/cifar100-se-a", "paper/imagenet-sge"], tmp_path / "s.png")
    assert not (tmp_path / "s.png").exists()


def test_words_need_blocks(tmp_path):
    with pytest.raises(ValueError, match="add --blocks 3-4-6-3"):
        draw_schemes(["full"], tmp_path / "s.png")
    draw_schemes(["full", "01101"], tmp_path / "s.png", blocks=BLOCKS)
    assert filled(tmp_path / "s.png") == [5, 3]


def test_a_scheme_file_tells_the_blocks(tmp_path):
    (tmp_path / "scheme.json").write_text(json.dumps({"scheme": "11-010", "attention": {"type": "DIA"}}))
    draw_schemes([str(tmp_path / "scheme.json"), "full"], tmp_path / "s.png")
    assert filled(tmp_path / "s.png") == [3, 5]


def test_frequencies():
    schemes = [ConnectionScheme.parse(t, BLOCKS) for t in ("10-111", "01-100", "11-000", "10-100")]
    assert frequencies(schemes) == [0.75, 0.5, 0.75, 0.25, 0.25]


def test_rows_of_a_log():
    entries = [entry("10-111", 1.0), entry("01-000", 3.0), entry("10-111", 2.0), entry("00-001", 3.0)]
    entries += [entry("11-100", -1.0, step=2)] * 6
    everything, late, best, first, second = log_rows(entries, "x", top=2)
    assert everything.values == [0.8, 0.7, 0.8, 0.2, 0.3]
    assert late.values == [1, 1, 1, 0, 0]
    assert best.values == [0, 1, 0, 0, 0]  # a tenth of four schemes, at least one
    assert [str(first.scheme), str(second.scheme)] == ["01-000", "00-001"]
    assert [row.title for row in (everything, late, best)] == [
        "x: % connected, all 10 candidates",
        "x: % connected, the last 2 candidates",
        "x: % connected, the best 1 of 4 different schemes",
    ]
    assert first.title.startswith("1. by reward, 3.000   1 of 5 connected")
    assert second.title.startswith("2. by reward, 3.000")


def test_a_log_without_failures_and_verdict(tmp_path):
    lines = [entry("11-111", 1.0), entry("11-111", None), entry("00-000", 9.0, failed=True)]
    lines += [entry("00-000", 9.0, final=True)]
    path = tmp_path / "search.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    draw_schemes([str(path)], tmp_path / "s.png")
    assert filled(tmp_path / "s.png") == [5]
    path.write_text(json.dumps(lines[2]) + "\n")
    with pytest.raises(ValueError, match="holds no candidate"):
        draw_schemes([str(path)], tmp_path / "s.png")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        draw_schemes([str(tmp_path / "other.jsonl")], tmp_path / "s.png")
