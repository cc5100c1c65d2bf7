"""What is imported before anything needs it: nothing that users would wait for in vain."""

from multiprocessing.pool import Pool
from pathlib import Path

import pytest

import ean_core
from ean_testing.fresh import ROOT, run_program

LAZY = ("ean_core.deploy", "ean_core.engine", "ean_core.inference", "ean_core.search")


def imported(fresh: Pool, program: str | Path, *arguments: str, names: tuple[str, ...]) -> list[str]:
    """Which of the modules a fresh interpreter has imported after this program."""
    ran = fresh.apply(run_program, (program, *arguments))
    assert ran.status == 0
    return [name for name in names if name in ran.modules]


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("", ("ean_core", "mmcv", "mmengine.runner", "PIL", "scipy")),
        ("import ean_core", ("cv2", "mmcv", "mmengine.runner", "PIL", "matplotlib", "scipy", "torchvision", *LAZY)),
        ("import ean_core.engine", ("mmcv", "ean_core.deploy", "matplotlib", "scipy", "torchvision")),
        ("import crowd_counting.application", ("scipy.spatial", "matplotlib", "torchvision")),
        (ROOT / "tools" / "prepare_data.py", ("torchvision", "scipy", "mmcv", "PIL")),
        (ROOT / "tools" / "compare_strategies.py", ("matplotlib", "mmcv", "ean_core.search")),
    ],
    ids=["nothing", "ean_core", "engine", "crowd counting", "help of prepare_data", "help of compare_strategies"],
)
def test_not_imported_before_it_is_needed(fresh: Pool, program: str | Path, names: tuple[str, ...]) -> None:
    assert imported(fresh, program, "--help", names=names) == []


def test_the_import_registers_the_backbones_and_building_finds_mmcv(fresh: Pool) -> None:
    code = """
import ean_core
from mmengine.registry import MODELS
assert MODELS.get("EANResNet") is ean_core.EANResNet and MODELS.get("EANCifarResNet") is ean_core.EANCifarResNet
MODELS.build(dict(type="EANResNet", depth=18, norm_cfg=dict(type="GN", num_groups=8)))
"""
    assert imported(fresh, code, names=("mmcv.cnn",)) == ["mmcv.cnn"]


def test_building_an_attention_says_nothing(fresh: Pool) -> None:
    """MMEngine looks for the modules of a registry in a package whose configs it knows; ours says where they are."""
    code = "from ean_core import build_attention\nbuild_attention(dict(type='SE'), channels=16)"
    ran = fresh.apply(run_program, (code,))
    assert (ran.status, ran.out, ran.err) == (0, "", "")


HOMES = {
    "CellNetwork": "ean_core.cells.network",
    "CellSupernet": "ean_core.cells.supernet",
    "ConnectionScheme": "ean_core.scheme",
    "EANCifarResNet": "ean_core.backbones.cifar_resnet",
    "EANResNet": "ean_core.backbones.resnet",
    "EANResNetV1c": "ean_core.backbones.resnet",
    "Genotype": "ean_core.cells.genotype",
    "Plugged": "ean_core.backbones.plugged",
    "build_attention": "ean_core.attention.base",
    "evaluate": "ean_core.engine.testing",
    "fuse": "ean_core.deploy.fuse",
    "load": "ean_core.inference.predictor",
    "load_config": "ean_core.engine.config",
    "train": "ean_core.engine.training",
}


def test_what_the_package_offers() -> None:
    assert set(ean_core.__all__) == {*HOMES, "search", "__version__"}
    assert {name: getattr(ean_core, name).__module__ for name in HOMES} == HOMES
    with pytest.raises(AttributeError, match="module 'ean_core' has no attribute 'sarch'"):
        ean_core.sarch  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "import ean_core",
        "from ean_core.search import search as loop\nimport ean_core",
        "import ean_core.strategies\nimport ean_core\nfrom ean_core import search\nassert search is ean_core.search",
    ],
)
def test_the_search_is_a_package_and_can_be_called(fresh: Pool, code: str) -> None:
    check = """
from mmengine.config import Config
from types import ModuleType
try:
    ean_core.search(Config(dict(work_dir="nowhere"), filename=None))
except ValueError as error:
    assert "is no config for a search" in str(error)
else:
    raise AssertionError
from ean_core.search import Reward, search as step_loop
assert isinstance(ean_core.search, ModuleType) and ean_core.search.search is step_loop
"""
    assert imported(fresh, f"{code}\n{check}", names=()) == []
