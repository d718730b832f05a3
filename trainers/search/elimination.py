"""Recursive layer elimination (wavCSE §2.1): train, drop the layer that tells least, train again, down to one.

The recursion knows nothing of models, folds or tasks: it is told, round by round, what was found on the layers that
remain. `search.rounds` runs it on the layers of a view.

The paper chooses the number of layers by the scores that it reports. Here validation scores choose; test scores are
carried along and shown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Round:
    """What the models trained on a subset of the layers showed."""

    weights: Mapping[str, float]
    """How much every layer of the subset tells: the one of the lowest weight goes."""
    valid: Mapping[str, float]
    """Validation score of every task, higher is better, and their `mean`."""
    test: Mapping[str, float]
    """The same on test data, empty where there is none: shown, never chosen by."""
    spread: Mapping[str, Mapping[str, float]] | None = None
    """Standard deviations over the seeds of `weights`, `valid` and `test`; empty where there is one seed."""

    @property
    def weakest(self) -> str:
        """The layer that goes; of equal ones the highest, which costs the upstream most."""
        return min(reversed(self.weights), key=self.weights.get)


class LayerElimination:
    """Recursion over subsets of layers, in the manner of scikit-learn's `RFE`, over any scoring function.

        elimination = LayerElimination(lambda layers: Round(weights, valid, test)).fit(layer_names)

    Attributes after `fit`:
        rounds_: all rounds, the first on all layers.
        scores_: float [rounds]: the mean validation score of each.
        best_round_: number of the chosen one, from 0: the best score; of equal ones the fewest layers.
        support_: bool [layers]: which layers that round kept, in the order of the names.
        ranking_: int [layers]: 1 for the layers kept, then upwards in the reverse order of elimination.
        kept_: names of the layers kept.
    """

    def __init__(self, score: Callable[[tuple[str, ...]], Round] | None = None):
        self.score = score

    def fit(self, layer_names: Sequence[str]) -> "LayerElimination":
        """Runs one round per layer.

        Raises:
            ValueError: no layer, or one named twice; a round without a weight for each of its layers.
        """
        self.begin(layer_names)
        while self.remaining_:
            self.take(self.score(self.remaining_))
        return self

    def begin(self, layer_names: Sequence[str]) -> None:
        """Starts with all layers, for whoever scores the rounds himself and hands them to `take`."""
        if not layer_names or len(set(layer_names)) < len(layer_names):
            raise ValueError(f"expected layers, each named once, got {list(layer_names)}")
        self.layer_names_ = tuple(layer_names)
        self.remaining_ = self.layer_names_
        self.rounds_: list[Round] = []

    def take(self, found: Round) -> None:
        """Takes what was found on the layers that remain, and drops the weakest of them."""
        if set(found.weights) != set(self.remaining_) or not all(map(np.isfinite, found.weights.values())):
            raise ValueError(f"expected a finite weight for each of {self.remaining_}, got {dict(found.weights)}")
        self.rounds_.append(found)
        weakest = found.weakest
        self.remaining_ = tuple(layer for layer in self.remaining_ if layer != weakest)

    @property
    def scores_(self) -> np.ndarray:
        """See the class."""
        return np.array([found.valid["mean"] for found in self.rounds_])

    @property
    def best_round_(self) -> int:
        """See the class."""
        return len(self.scores_) - 1 - int(self.scores_[::-1].argmax())

    @property
    def best_(self) -> Round:
        """The chosen round."""
        return self.rounds_[self.best_round_]

    @property
    def kept_(self) -> tuple[str, ...]:
        """See the class."""
        return tuple(layer for layer in self.layer_names_ if layer in self.best_.weights)

    @property
    def support_(self) -> np.ndarray:
        """See the class."""
        return np.array([layer in self.best_.weights for layer in self.layer_names_])

    @property
    def ranking_(self) -> np.ndarray:
        """See the class."""
        best = self.best_round_
        dropped = {found.weakest: best - number + 1 for number, found in enumerate(self.rounds_[:best])}
        return np.array([dropped.get(layer, 1) for layer in self.layer_names_])
