"""A genetic algorithm: NSGA-II (Deb et al., 2002), as Optuna implements it (the extra ``search``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ean_core.errors import UserError
from ean_core.scheme import ConnectionScheme
from ean_core.strategies.base import BestSeen


class Genetic:
    """NSGA-II on the bits, with uniform crossover: of the reward, or of all its aims at once if it has some.

    Args:
        blocks: Number of blocks of each stage.
        seed: Determines everything.
        population: Schemes a generation. 20 gives some generations even to a search of 100 schemes; Optuna's own
            default of 50 would not.
        mutation: Probability that a bit is drawn anew; one bit in ``m`` when ``None`` (Optuna's default).
        crossover: Probability that a child has two parents; 0.9 (Optuna's default).

    Raises:
        UserError: Optuna is not installed.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        seed: int = 0,
        population: int = 20,
        mutation: float | None = None,
        crossover: float = 0.9,
    ) -> None:
        try:
            import optuna
        except ImportError as error:
            raise UserError("strategy genetic needs Optuna: pip install 'ean[search]'") from error
        self.blocks = tuple(blocks)
        self._optuna: Any = optuna
        self._options = {"population_size": population, "mutation_prob": mutation, "crossover_prob": crossover}
        self._seed = seed
        self._bits = {f"block{i}": optuna.distributions.CategoricalDistribution([0, 1]) for i in range(sum(blocks))}
        self.seen = BestSeen()
        self.history: list[int | tuple[Any, ...]] = []
        self._open: list[tuple[Any, ConnectionScheme]] = []
        self._reset(1)

    def ask(self, n: int) -> list[ConnectionScheme]:
        """The next ``n`` individuals."""
        self.history.append(n)
        return [self._draw() for _ in range(n)]

    def tell(self, schemes: Sequence[ConnectionScheme], rewards: Sequence[float]) -> None:
        """Score individuals; a failed one has no offspring. Schemes that were not asked for join the population."""
        self._tell(schemes, rewards, [() for _ in rewards])

    def tell_aims(
        self, schemes: Sequence[ConnectionScheme], rewards: Sequence[float], aims: Sequence[Sequence[float]]
    ) -> None:
        """As ``tell``, with what is sorted by instead of the reward, which only decides :meth:`best`.

        Args:
            schemes: Individuals.
            rewards: NaN means failed.
            aims: For each the same number of values, of which more is better.
        """
        if schemes and len(aims[0]) != len(self.study.directions):
            asked = [event for event in self.history if isinstance(event, int)]  # before it was told anything
            self._reset(len(aims[0]))
            for n in asked:  # the first generation, drawn by the same seed: the same
                self.ask(n)
        self._tell(schemes, rewards, aims)

    def _tell(
        self, schemes: Sequence[ConnectionScheme], rewards: Sequence[float], aims: Sequence[Sequence[float]]
    ) -> None:
        states = self._optuna.trial.TrialState
        for scheme, reward, own in zip(schemes, rewards, aims, strict=True):
            self.history.append((str(scheme), float(reward), *map(float, own)))
            objectives = list(own) or [reward]
            asked = next((trial for trial, drawn in self._open if drawn == scheme), None)
            self._open = [pair for pair in self._open if pair[0] is not asked]
            if not math.isfinite(reward):
                if asked is not None:
                    self.study.tell(asked, state=states.FAIL)
            elif asked is not None:
                self.study.tell(asked, objectives)
            else:
                params = dict(zip(self._bits, map(int, scheme), strict=True))
                self.study.add_trial(
                    self._optuna.trial.create_trial(params=params, distributions=self._bits, values=objectives)
                )
        self.seen.update(schemes, rewards)

    def best(self) -> ConnectionScheme:
        """The scheme with the highest reward told of."""
        return self.seen.get()

    def state_dict(self) -> dict[str, Any]:
        """What was asked and told, in order: played again, it gives the same population and generator."""
        return {"history": list(self.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        told = [event for event in state["history"] if not isinstance(event, int)]
        self._reset(len(told[0]) - 2 if told and len(told[0]) > 2 else 1)
        for event in state["history"]:
            if isinstance(event, int):
                self.ask(event)
                continue
            name, reward, *aims = event
            scheme = ConnectionScheme.parse(name, self.blocks)
            self._tell([scheme], [reward], [aims])

    def _reset(self, objectives: int) -> None:
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)  # it prints a line a study and a trial
        sampler = self._optuna.samplers.NSGAIISampler(seed=self._seed, **self._options)
        self.study = self._optuna.create_study(directions=["maximize"] * objectives, sampler=sampler)
        self.history, self._open, self.seen = [], [], BestSeen()

    def _draw(self) -> ConnectionScheme:
        trial = self.study.ask(self._bits)
        scheme = self._scheme(trial.params)
        self._open.append((trial, scheme))
        return scheme

    def _scheme(self, params: dict[str, int]) -> ConnectionScheme:
        return ConnectionScheme.parse("".join(str(params[name]) for name in self._bits), self.blocks)
