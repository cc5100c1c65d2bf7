"""A genetic algorithm: NSGA-II (Deb et al., 2002), as Optuna implements it (the extra ``search``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ean_core.errors import UserError
from ean_core.scheme import ConnectionScheme
from ean_core.strategies.base import BestSeen


class Genetic:
    """NSGA-II on the bits, with uniform crossover; of one objective, or of two with a Pareto front.

    Args:
        blocks: Number of blocks of each stage.
        seed: Determines everything.
        population: Schemes a generation. 20 gives some generations even to a search of 100 schemes; Optuna's own
            default of 50 would not.
        mutation: Probability that a bit is drawn anew; one bit in ``m`` when ``None`` (Optuna's default).
        crossover: Probability that a child has two parents; 0.9 (Optuna's default).
        multi_objective: Maximise reward and sparsity separately instead of the reward alone. For accuracy x sparsity
            search with the reward ``[dict(metric="accuracy")]``, which does not contain the sparsity already.

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
        multi_objective: bool = False,
    ) -> None:
        try:
            import optuna
        except ImportError as error:
            raise UserError("strategy genetic needs Optuna: pip install 'ean[search]'") from error
        self.blocks, self.multi_objective = tuple(blocks), multi_objective
        self._optuna: Any = optuna
        self._options = {"population_size": population, "mutation_prob": mutation, "crossover_prob": crossover}
        self._seed = seed
        self._bits = {f"block{i}": optuna.distributions.CategoricalDistribution([0, 1]) for i in range(sum(blocks))}
        self.seen = BestSeen()
        self.history: list[int | tuple[str, float]] = []
        self._open: list[tuple[Any, ConnectionScheme]] = []
        self._reset()

    def ask(self, n: int) -> list[ConnectionScheme]:
        """The next ``n`` individuals."""
        self.history.append(n)
        return [self._draw() for _ in range(n)]

    def tell(self, schemes: Sequence[ConnectionScheme], rewards: Sequence[float]) -> None:
        """Score individuals; a failed one has no offspring. Schemes that were not asked for join the population."""
        states = self._optuna.trial.TrialState
        for scheme, reward in zip(schemes, rewards, strict=True):
            self.history.append((str(scheme), float(reward)))
            values = [reward, scheme.sparsity] if self.multi_objective else [reward]
            asked = next((trial for trial, drawn in self._open if drawn == scheme), None)
            self._open = [pair for pair in self._open if pair[0] is not asked]
            if not math.isfinite(reward):
                if asked is not None:
                    self.study.tell(asked, state=states.FAIL)
            elif asked is not None:
                self.study.tell(asked, values)
            else:
                params = dict(zip(self._bits, map(int, scheme), strict=True))
                self.study.add_trial(
                    self._optuna.trial.create_trial(params=params, distributions=self._bits, values=values)
                )
        self.seen.update(schemes, rewards)

    def best(self) -> ConnectionScheme:
        """The scheme with the highest reward told of."""
        return self.seen.get()

    def pareto(self) -> list[tuple[ConnectionScheme, float]]:
        """With two objectives: the schemes that none surpasses in both, with their rewards, sparsest first."""
        front = {self._scheme(trial.params): trial.values[0] for trial in self.study.best_trials}
        return sorted(front.items(), key=lambda pair: -pair[0].sparsity)

    def report(self) -> dict[str, Any]:
        """For the scheme file: with two objectives the Pareto front."""
        if not self.multi_objective:
            return {}
        front = [{"scheme": str(s), "reward": reward, "sparsity": s.sparsity} for s, reward in self.pareto()]
        return {"pareto": front}

    def state_dict(self) -> dict[str, Any]:
        """What was asked and told, in order: played again, it gives the same population and generator."""
        return {"history": list(self.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self._reset()
        for event in state["history"]:
            if isinstance(event, int):
                self.ask(event)
            else:
                self.tell([ConnectionScheme.parse(event[0], self.blocks)], [event[1]])

    def _reset(self) -> None:
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)  # it prints a line a study and a trial
        sampler = self._optuna.samplers.NSGAIISampler(seed=self._seed, **self._options)
        directions = ["maximize"] * (2 if self.multi_objective else 1)
        self.study = self._optuna.create_study(directions=directions, sampler=sampler)
        self.history, self._open, self.seen = [], [], BestSeen()

    def _draw(self) -> ConnectionScheme:
        trial = self.study.ask(self._bits)
        scheme = self._scheme(trial.params)
        self._open.append((trial, scheme))
        return scheme

    def _scheme(self, params: dict[str, int]) -> ConnectionScheme:
        return ConnectionScheme.parse("".join(str(params[name]) for name in self._bits), self.blocks)
