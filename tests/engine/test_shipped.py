"""The configs of the package by short names, and by MMEngine's: `ean_core::seg/ean_se_voc.py`."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

from ean_core.engine import load_config
from ean_core.engine.config import read_config
from ean_core.engine.shipped import CONFIGS, config_names, find_config, short_name
from ean_core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SEG = ROOT / "configs" / "seg"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["ean_se_voc", "ean_se_voc.py", "seg/ean_se_voc", "configs/seg/ean_se_voc.py"])
def test_every_way_to_write_a_name(name: str) -> None:
    assert find_config(name) == SEG / "ean_se_voc.py"


def test_a_file_comes_before_a_name(tmp_path: Path) -> None:
    (tmp_path / "ean_se_voc.py").write_text("a = 1\n")
    assert find_config("ean_se_voc.py") == Path("ean_se_voc.py")
    assert find_config("ean_se_voc") == SEG / "ean_se_voc.py"


def test_each_name_that_is_listed_is_found() -> None:
    names = config_names()
    assert [find_config(name) for name in names] == [CONFIGS / f"{name}.py" for name in names]
    assert [short_name(find_config(name)) for name in names] == names
    assert short_name("mine/a.py") == "mine/a.py"
    bare = [name.rpartition("/")[2] for name in names]
    for name in {name for name in bare if bare.count(name) > 1}:
        with pytest.raises(UserError, match=f"there are 2 configs named '{name}': take cls/{name} or search/{name}"):
            find_config(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ean_se_vco", "config 'ean_se_vco' does not exist: did you mean 'ean_se_voc' or "),
        ("seg/ean_se_vco", "did you mean 'seg/ean_se_voc' or "),
        ("zzz", "config 'zzz' does not exist: name a file, or one of those that 'ean configs' lists"),
        ("_base_/runtime/seg", "does not exist"),
        ("", "config '' does not exist: name a file, or one of those that 'ean configs' lists"),
        ("ean_se_voc.yaml", "config 'ean_se_voc.yaml' does not exist: did you mean 'ean_se_voc'"),
        ("ean_se_voc.v2", "config 'ean_se_voc.v2' does not exist: did you mean 'ean_se_voc'"),
    ],
)
def test_an_unknown_name(name: str, said: str) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        find_config(name)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", [".", "/", "..", "mine"])
def test_a_folder_is_no_config(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match=f"^'{re.escape(name)}' is a folder, not a config"):
        find_config(name)


def test_a_folder_does_not_hide_a_name(tmp_path: Path) -> None:
    (tmp_path / "ean_se_voc").mkdir()
    assert find_config("ean_se_voc") == SEG / "ean_se_voc.py"


def test_a_config_by_name_is_that_of_its_file(small_voc: Path) -> None:
    named, by_path = (load_config(path, data_root=small_voc) for path in ("ean_se_voc", SEG / "ean_se_voc.py"))
    assert named.to_dict() == by_path.to_dict()
    assert (named.work_dir, named.filename) == ("work_dirs/ean_se_voc", by_path.filename)


def test_mmengine_finds_the_configs(tmp_path: Path) -> None:
    theirs = get_config("ean_core::seg/ean_se_voc.py")
    assert theirs.to_dict() == Config.fromfile(SEG / "ean_se_voc.py").to_dict()


def test_a_config_on_a_shipped_base(tmp_path: Path, small_voc: Path) -> None:
    """MMEngine marks each dict of such a base with the scope `ean_core`, in which there is no registry."""
    (tmp_path / "mine.py").write_text('_base_ = "ean_core::seg/ean_se_voc.py"\ncrop_size = 48\n')
    assert Config.fromfile("mine.py").model._scope_ == "ean_core"
    cfg = load_config("mine.py", data_root=small_voc)
    other = load_config("ean_se_voc", data_root=small_voc, work_dir=cfg.work_dir, options={"crop_size": 48})
    assert cfg.to_dict() == other.to_dict()
    assert "_scope_" not in str(read_config(tmp_path / "mine.py"))
