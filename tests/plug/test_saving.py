"""What was plugged, alone in a small file, and plugged again from it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from ean_core.errors import UserError
from ean_core.plug import find_points, plug, plug_from, squeeze_excite, unplug
from ean_testing.plugs import Small, handle, resnet, small
from ean_testing.references import randomize
from ean_testing.tiny import CONFIGS, images

SE = CONFIGS["SE"]


def wider() -> nn.Module:
    """The same names, another width."""
    model = Small()
    model.stem = nn.Conv2d(3, 12, 3)
    for i in range(3):
        model.blocks[i] = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12))
    model.down = nn.Conv2d(12, 16, 1)
    return model


def plugged_resnet() -> Any:
    model = resnet().eval()
    points = find_points(model, torch.zeros(1, 3, 64, 64))
    plug(model, {"type": "SE", "reduction": 16}, points, "10-01-00-00")
    randomize(handle(model), 1)
    return model


def test_a_few_kilobytes(tmp_path: Path) -> None:
    model = plugged_resnet()
    handle(model).save(tmp_path / "added" / "se.pth")
    parameters = sum(2 * c * (c // 16) + c // 16 + c for c in (64, 128))
    assert 4 * parameters < (tmp_path / "added" / "se.pth").stat().st_size < 4 * parameters + 8192 < 20_000
    content = torch.load(tmp_path / "added" / "se.pth", weights_only=True)
    assert all(key.startswith("plugged.") for key in content)
    again = resnet().eval()
    assert plug_from(again, tmp_path / "added" / "se.pth") is again
    assert torch.equal(again(images(2, 32)), model(images(2, 32)))
    assert str(handle(again).scheme) == "10-01-00-00"


@pytest.mark.parametrize("kind", ["SE", "SGE", "DIA"])
@pytest.mark.parametrize("options", [{}, {"sharing": "point", "start": "identity"}], ids=str)
@pytest.mark.parametrize("whole", [False, True], ids=["alone", "checkpoint"])
def test_everything_comes_back(kind: str, options: dict[str, Any], whole: bool, tmp_path: Path) -> None:
    model = small(CONFIGS[kind], "111-0", **options).eval()
    handle(model).set_scheme("101-0")  # what is connected now, and what may be connected later
    if whole:
        torch.save({"state_dict": {f"backbone.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "f.pth")
    else:
        handle(model).save(tmp_path / "f.pth")
    again = plug_from(Small().eval(), tmp_path / "f.pth")
    ours, theirs = handle(again), handle(model)
    for name in ("blocks", "scheme", "attention", "sharing", "start", "points", "built"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert torch.equal(again(images()), model(images()))
    for scheme in ("111-0", "000-0"):
        ours.set_scheme(scheme)
        theirs.set_scheme(scheme)
        assert torch.equal(again(images()), model(images()))
    assert not any(module.training for module in again.modules())
    state, expected = again.state_dict(), model.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(value, expected[key]) for key, value in state.items())


def test_gates_are_saved_as_the_whole_scheme(tmp_path: Path) -> None:
    model = small(SE)
    handle(model).set_scheme(torch.full((4,), 0.5))
    handle(model).save(tmp_path / "f.pth")
    assert str(handle(plug_from(Small(), tmp_path / "f.pth")).scheme) == "111-1"


def test_a_checkpoint_fits_whatever_example_found_the_points() -> None:
    models = [plug(Small(), SE, find_points(Small(), images(1, size))) for size in (8, 16)]
    randomize(handle(models[0]), 1)
    models[1].load_state_dict(models[0].state_dict())
    assert torch.equal(models[0].eval()(images()), models[1].eval()(images()))


def test_surgery_comes_back(tmp_path: Path) -> None:
    model = squeeze_excite(torchvision.models.resnet18(), min_channels=256, latent_channels=16).eval()
    randomize(handle(model), 1)
    torch.save(model.state_dict(), tmp_path / "f.pth")
    again = plug_from(torchvision.models.resnet18().eval(), tmp_path / "f.pth")
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(images(1, 32)), model(images(1, 32)))


def write_bytes(path: Path) -> None:
    path.write_bytes(b"no checkpoint at all")


def write_plain(path: Path) -> None:
    torch.save(Small().state_dict(), path)


def write_foreign(path: Path) -> None:
    torch.save({"plugged.recipe": Small()}, path)


def write_strange(path: Path) -> None:
    torch.save({"state_dict": [1, 2], 3: torch.ones(1)}, path)


def write_garbled(path: Path) -> None:
    torch.save({"plugged.recipe": torch.arange(20, dtype=torch.uint8)}, path)


def write_others(path: Path) -> None:
    handle(plugged_resnet()).save(path)


def write_wider(path: Path) -> None:
    model = wider()
    handle(plug(model, SE, find_points(model, images()))).save(path)


def write_incomplete(path: Path) -> None:
    state = {f"plugged.{key}": value for key, value in handle(small(SE)).state_dict().items()}
    del state["plugged.stage2.fc1.weight"]
    torch.save(state, path)


def write_misshapen(path: Path) -> None:
    state = {f"plugged.{key}": value for key, value in handle(small(SE)).state_dict().items()}
    state["plugged.stage2.fc1.weight"] = torch.ones(2, 2)
    torch.save(state, path)


BAD: dict[Callable[[Path], None], str] = {
    write_bytes: "cannot be read: it is truncated, or not a checkpoint",
    write_plain: r"does not hold plugged attention: plugged\.save\(file\) writes such files$",
    write_foreign: "which is neither a tensor nor a plain value",
    write_strange: "holds no state dict: its weights are no table",
    write_garbled: "does not hold plugged attention",
    write_others: r"Small has no module 'layer1\.0\.bn2': the points are another network's$",
    write_wider: r"'blocks\.0' has 8 channels and not 12$",
    write_incomplete: r"Missing key.*stage2\.fc1\.weight",
    write_misshapen: r"size mismatch for stage2\.fc1\.weight",
}


@pytest.mark.parametrize("write", BAD, ids=lambda write: write.__name__)
def test_files_that_do_not_fit_change_nothing(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "f.pth")
    model = Small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match=BAD[write]) as caught:
        plug_from(model, tmp_path / "f.pth")
    assert "\n" not in str(caught.value)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert not hasattr(model, "plugged")


def test_a_file_that_is_not_there_and_a_network_that_is_plugged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        plug_from(Small(), tmp_path / "f.pth")
    model = small(SE)
    handle(model).save(tmp_path / "f.pth")
    with pytest.raises(UserError, match="is plugged already"):
        plug_from(model, tmp_path / "f.pth")
    assert list(plug_from(unplug(model), tmp_path / "f.pth").state_dict()) == list(small(SE).state_dict())


@pytest.mark.parametrize("kind", ["antigravity", "os.system", "ean_core.files.write_atomic"])
def test_a_file_imports_nothing(kind: str, tmp_path: Path) -> None:
    """Python's ``antigravity`` opens a browser when it is imported."""
    handle(small(SE, "111-0")).save(tmp_path / "f.pth")
    content = torch.load(tmp_path / "f.pth", weights_only=True)
    recipe = json.loads(bytes(content["plugged.recipe"].tolist()))
    recipe["attention"]["type"] = kind
    content["plugged.recipe"] = torch.tensor(list(json.dumps(recipe).encode()), dtype=torch.uint8)
    torch.save(content, tmp_path / "f.pth")
    with pytest.raises(UserError, match=rf"names the attention '{kind}', which would be imported"):
        plug_from(Small(), tmp_path / "f.pth")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("state", [None, 3, {"plugged.recipe": torch.eye(3).to_sparse()}], ids=["none", "3", "sparse"])
def test_a_state_that_is_none(state: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": state}, tmp_path / "f.pth")
    with pytest.raises(UserError, match=r"f\.pth' holds no (state dict|usable weights)"):
        plug_from(Small(), tmp_path / "f.pth")
