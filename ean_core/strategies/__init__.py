"""Search strategies behind one interface, the paper's policy gradient among them. Method cards: README.md."""

from ean_core.strategies.base import STRATEGIES, GateLoss, Strategy, build_strategy, find_strategy

__all__ = ["STRATEGIES", "GateLoss", "Strategy", "build_strategy", "find_strategy"]
