"""What is imported before anything needs it: nothing that users would wait for in vain."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HELP = """
import runpy
try:
    sys.argv = ["tool", "--help"]
    runpy.run_path({path!r}, run_name="__main__")
except SystemExit as stopped:
    assert not stopped.code
"""


def imported(code: str, names: tuple[str, ...]) -> list[str]:
    """Which of the modules a fresh interpreter has imported after this code."""
    code = f"import sys\n{code}\nprint(*(name for name in {names} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr.split()


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import ean_core", ("cv2", "mmcv", "mmengine.runner", "PIL", "matplotlib", "scipy", "torchvision")),
        ("import ean_core.engine", ("mmcv", "ean_core.deploy", "matplotlib", "scipy", "torchvision")),
        ("import crowd_counting.application", ("scipy.spatial", "matplotlib", "torchvision")),
        (HELP.format(path="tools/prepare_data.py"), ("torchvision", "scipy", "mmcv", "PIL")),
        (HELP.format(path="tools/compare_strategies.py"), ("matplotlib", "mmcv", "ean_core.search")),
    ],
    ids=["ean_core", "engine", "crowd counting", "help of prepare_data", "help of compare_strategies"],
)
def test_not_imported_before_it_is_needed(code: str, names: tuple[str, ...]) -> None:
    assert imported(code, names) == []


def test_the_import_registers_the_backbones_and_building_finds_mmcv() -> None:
    code = """
import ean_core
from mmengine.registry import MODELS
assert MODELS.get("EANResNet") is ean_core.EANResNet and MODELS.get("EANCifarResNet") is ean_core.EANCifarResNet
MODELS.build(dict(type="EANResNet", depth=18, norm_cfg=dict(type="GN", num_groups=8)))
"""
    assert imported(code, ("mmcv.cnn",)) == ["mmcv.cnn"]
