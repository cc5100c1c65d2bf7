"""Running a config: hooks, runner, command line. Everything here is shared by the three applications."""

from ean_core.engine.amp import CPUAmpOptimWrapper
from ean_core.engine.config import load_config
from ean_core.engine.drop_path import DropPathHook
from ean_core.engine.history import HistoryHook
from ean_core.engine.progress import ProgressHook
from ean_core.engine.reproduce import ReseedHook, seed_worker
from ean_core.engine.runner import EANRunner, build_runner
from ean_core.engine.saving import SaveHook
from ean_core.engine.testing import evaluate
from ean_core.engine.timer import SteadyTimerHook
from ean_core.engine.training import train

__all__ = [
    "CPUAmpOptimWrapper",
    "DropPathHook",
    "EANRunner",
    "HistoryHook",
    "ProgressHook",
    "ReseedHook",
    "SaveHook",
    "SteadyTimerHook",
    "build_runner",
    "evaluate",
    "load_config",
    "seed_worker",
    "train",
]
