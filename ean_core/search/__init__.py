"""The search for where to plug attention: supernet, evaluator, strategies behind one interface, and the loop."""

from ean_core.search.evaluator import Evaluator
from ean_core.search.loop import search
from ean_core.search.policy_gradient import PolicyGradient
from ean_core.search.reward import Reward, Term, build_reward
from ean_core.search.strategy import STRATEGIES, Strategy, build_strategy
from ean_core.search.supernet import SupernetHook, sample_scheme

__all__ = [
    "STRATEGIES",
    "Evaluator",
    "PolicyGradient",
    "Reward",
    "Strategy",
    "SupernetHook",
    "Term",
    "build_reward",
    "build_strategy",
    "sample_scheme",
    "search",
]
