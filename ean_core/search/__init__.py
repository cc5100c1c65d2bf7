"""The search for where to plug attention: supernet, evaluator, reward, and the loop that asks a strategy.

``ean_core.search(cfg)`` runs it whole: the package can be called.
"""

import sys
from types import ModuleType
from typing import Any

from ean_core.search.evaluator import Evaluator
from ean_core.search.found import Found
from ean_core.search.loop import search
from ean_core.search.reward import Reward, Term, build_reward
from ean_core.search.supernet import SupernetHook, sample_scheme
from ean_core.strategies import STRATEGIES, Strategy, build_strategy

__all__ = [
    "STRATEGIES",
    "Evaluator",
    "Found",
    "Reward",
    "Strategy",
    "SupernetHook",
    "Term",
    "build_reward",
    "build_strategy",
    "sample_scheme",
    "search",
]


class _Search(ModuleType):
    """This package. Called, it is :func:`ean_core.search.algorithm1.run_search`."""

    def __call__(self, *args: Any, **options: Any) -> Found:
        from ean_core.search.algorithm1 import run_search

        return run_search(*args, **options)


sys.modules[__name__].__class__ = _Search
