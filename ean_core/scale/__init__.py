"""Independent tasks on many processes or machines."""

from ean_core.scale.build import build_engine, engine_of
from ean_core.scale.outcome import Engine, Outcome

__all__ = ["Engine", "Outcome", "build_engine", "engine_of"]
