"""Search strategies behind one interface, the paper's policy gradient among them. Method cards: README.md."""

from ean_core.strategies.base import (
    STRATEGIES,
    BestSeen,
    GateLoss,
    Strategy,
    build_strategy,
    find_strategy,
    from_bits,
    to_bits,
)

__all__ = [
    "STRATEGIES",
    "BestSeen",
    "GateLoss",
    "Strategy",
    "build_strategy",
    "find_strategy",
    "from_bits",
    "to_bits",
]
