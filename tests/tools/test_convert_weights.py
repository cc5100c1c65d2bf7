"""tools/convert_weights.py: a converted file loads completely; a file that does not fit changes nothing."""

from collections.abc import Callable
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import pytest
import torch

from ean_core import EANResNet
from ean_core.checkpoint import read_checkpoint, write_checkpoint
from ean_testing import runs
from ean_testing.fresh import run_program

TOOL = Path(__file__).resolve().parents[2] / "tools" / "convert_weights.py"


@pytest.fixture(scope="module")
def convert() -> Callable[..., None]:
    main = runs.tool("convert_weights")
    return lambda *argv: main([str(arg) for arg in argv])


def authors_file(backbone: EANResNet) -> dict[str, Any]:
    """The backbone as the authors would have saved it: SE as 1x1 convolutions, names of the wrapper modules."""
    state: dict[str, torch.Tensor] = {"module.last_linear.weight": torch.ones(2, 512)}
    for key, value in backbone.state_dict().items():
        parts = key.split(".")
        if ".attention." in key:
            parts[1] = "share_fc"
            value = value[:, :, None, None] if value.dim() == 2 else value
        elif key.startswith("layer"):
            parts.insert(1, "ModuleList")
        state[".".join(["module", *parts])] = value
    return {"state_dict": state, "epoch": 100}


def test_authors_weights(convert: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    theirs = EANResNet(18, attention={"type": "SE", "reduction": 16}, conv_bias=True)
    for name, value in theirs.state_dict().items():
        if name.endswith((".bias", "running_mean")):
            value.uniform_(-0.3, 0.3)
    write_checkpoint(authors_file(theirs), tmp_path / "theirs.pth")
    convert(tmp_path / "theirs.pth", tmp_path / "new" / "ours.pth", "--depth", 18)
    out = capsys.readouterr().out
    assert "attention SE: loaded 136 tensors, unused 0, missing 0" in out
    assert f"wrote {tmp_path / 'new' / 'ours.pth'}" in out

    ours = EANResNet(
        18,
        attention={"type": "SE", "reduction": 16},
        init_cfg={"type": "Pretrained", "checkpoint": str(tmp_path / "new" / "ours.pth")},
    )
    ours.init_weights()
    x = torch.randn(1, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x)[0], theirs.eval()(x)[0], rtol=1e-4, atol=1e-4)


def test_attention_that_the_source_lacks_is_not_invented(
    convert: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = EANResNet(18)
    write_checkpoint(plain.state_dict(), tmp_path / "a")
    argv = ["--depth", 18, "--attention", "se", "--sharing", "block", "--scheme", "00-00-01-00"]
    convert(tmp_path / "a", tmp_path / "b", *argv)
    assert "unused 0, missing 4 (layer3.1.attention.fc1.weight, " in capsys.readouterr().out
    converted = read_checkpoint(tmp_path / "b")
    assert list(converted) == ["state_dict"]
    assert set(converted["state_dict"]) == set(plain.state_dict())
    convert(tmp_path / "b", tmp_path / "b", "--depth", 18)  # onto itself
    assert "attention none: loaded 120 tensors, unused 0, missing 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--depth", 50], "error: the checkpoint does not cover the backbone: "),
        (["--depth", 19], "error: EANResNet has no depth 19: "),
        (["--depth", 18, "--scheme", "1-1"], "error: scheme '1-1' does not fit: "),
        (["--depth", 18, "--attention", "sge"], "error: the checkpoint does not fit the backbone: 8 tensors "),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    options: list[Any],
    message: str,
    convert: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = EANResNet(18, attention={"type": "SGE", "groups": 32}).state_dict()
    write_checkpoint(source, tmp_path / "a")
    (tmp_path / "b").write_text("old")
    with pytest.raises(SystemExit) as exit_:
        convert(tmp_path / "a", tmp_path / "b", *options)
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith(message)
    assert error.count("\n") == 1
    assert (tmp_path / "b").read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "dropped"),
    [
        (["--attention", "dia"], 16),
        (["--attention", "sge"], 16),
        (["--sharing", "block"], 16),
        (["--sharing", "block", "--scheme", "00-00-00-01"], 4),
    ],
)
def test_trained_attention_is_not_dropped_in_silence(
    options: list[str],
    dropped: int,
    convert: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_checkpoint(EANResNet(18, attention={"type": "SE"}).state_dict(), tmp_path / "se")
    with pytest.raises(SystemExit) as exit_:
        convert(tmp_path / "se", tmp_path / "out", *options)
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith(f"error: '{tmp_path / 'se'}' holds {dropped} tensors of the stages that the network lacks")
    assert "--drop" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    convert(tmp_path / "se", tmp_path / "out", *options, "--drop")
    assert "attention" in capsys.readouterr().out


def test_what_is_asked_for_is_no_loss(convert: Callable[..., None], tmp_path: Path) -> None:
    """``--attention none`` leaves all attention out, and a scheme that of the stages without a connection."""
    write_checkpoint(EANResNet(18, attention={"type": "SE"}).state_dict(), tmp_path / "se")
    convert(tmp_path / "se", tmp_path / "plain", "--attention", "none")
    assert not any("attention" in key for key in read_checkpoint(tmp_path / "plain")["state_dict"])
    convert(tmp_path / "se", tmp_path / "last", "--scheme", "00-00-00-01")
    assert {key for key in read_checkpoint(tmp_path / "last")["state_dict"] if "attention" in key} == {
        f"layer4.attention.fc{i}.{name}" for i in (1, 2) for name in ("weight", "bias")
    }
    theirs = EANResNet(18).state_dict() | {"layer1.0.se_layer.conv1.conv.weight": torch.ones(4, 64, 1, 1)}
    write_checkpoint(theirs, tmp_path / "theirs")
    with pytest.raises(SystemExit):  # another family's attention is no module of ours
        convert(tmp_path / "theirs", tmp_path / "out")


def test_a_network_by_its_prefix(convert: Callable[..., None], tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = EANResNet(18).state_dict(), EANResNet(34).state_dict()
    both = {f"a.{k}": v for k, v in first.items()} | {f"b.{k}": v for k, v in second.items()}
    write_checkpoint({"state_dict": both}, tmp_path / "both")
    with pytest.raises(SystemExit):
        convert(tmp_path / "both", tmp_path / "out")
    convert(tmp_path / "both", tmp_path / "out", "--prefix", "b")
    assert set(read_checkpoint(tmp_path / "out")["state_dict"]) == set(second)


def test_as_a_command_from_another_folder(tmp_path: Path, fresh: Pool) -> None:
    ran = fresh.apply(run_program, (TOOL, "nowhere.pth", "out.pth"), {"folder": tmp_path})
    assert ran[:3] == (2, "", "error: checkpoint 'nowhere.pth' does not exist\n")
    assert list(tmp_path.iterdir()) == []
