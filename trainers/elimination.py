"""Recursive layer elimination (wavCSE §2.1): train, drop the layer of the lowest learned weight, train again, to one.

The recursion knows nothing of models: it asks a function to train on some layers and to say what it thinks of each.
`train_round` below is that function for weighted-average pooling over the layers of one view.

Unlike the paper, which is silent on it, the subset is chosen by its validation score; the test score stands beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from trainers.data import Dataset, Targets, TrainingError, targets
from trainers.fit import fit, outputs
from trainers.folds import Fold, three_way
from trainers.metrics import score
from trainers.model import Standardise
from trainers.poolings import WeightedAverage
from trainers.predictor import answers
from trainers.spec import Elimination, Task


@dataclass(frozen=True)
class Round:
    """What one training on a subset of the layers showed."""

    weights: Mapping[str, float]
    """Learned share of every layer of the subset."""
    valid: Mapping[str, float]
    """Validation score of every task, higher is better, and their `mean`."""
    test: Mapping[str, float]
    """The same on test data: shown, never chosen by."""


class LayerElimination:
    """Recursion over subsets of layers, in the manner of scikit-learn's `RFE`.

    After `fit`: `rounds_` (all rounds, the first on all layers), `scores_` (mean validation score per round),
    `best_round_` (its number, from 0; of equal scores the one with fewer layers), `support_` (names of the layers of
    that round) and `ranking_` (1 for a layer of the last round, then upwards in the reverse order of elimination).
    """

    def __init__(self, train_round: Callable[[tuple[str, ...]], Round]):
        self.train_round = train_round

    def fit(self, layer_names: Sequence[str]) -> "LayerElimination":
        """Runs one round per layer."""
        remaining = list(layer_names)
        self.rounds_: list[Round] = []
        self.ranking_: dict[str, int] = {}
        while remaining:
            result = self.train_round(tuple(remaining))
            self.rounds_.append(result)
            weakest = min(remaining, key=lambda layer: result.weights[layer])
            self.ranking_[weakest] = len(remaining)
            remaining.remove(weakest)
        self.scores_ = np.array([result.valid["mean"] for result in self.rounds_])
        self.best_round_ = len(self.scores_) - 1 - int(self.scores_[::-1].argmax())
        self.support_ = tuple(self.rounds_[self.best_round_].weights)
        return self


class UnifiedEmbedding(nn.Module):
    """Layers → weighted average → FC1 → FC2 (the embedding) → one linear output per task (wavCSE §2.3).

    The weights sum to 1 and FC1 is linear, so FC1 is applied once to the average instead of once per layer: the same
    values at 1/L of the products.
    """

    def __init__(self, num_layers: int, dim: int, how: Elimination, num_outputs: Mapping[str, int]):
        super().__init__()
        self.pooling = WeightedAverage(num_layers)
        self.shared = nn.Linear(dim, how.shared)
        self.embedding = nn.Linear(how.shared, how.embedding)
        self.heads = nn.ModuleList(nn.Linear(how.embedding, n) for n in num_outputs.values())
        self.tasks = tuple(num_outputs)
        self.register_buffer("target_mean", torch.zeros(len(num_outputs)))
        self.register_buffer("target_scale", torch.ones(len(num_outputs)))

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> dict[str, Float[Tensor, "batch outputs"]]:
        """Every task's logits, or standardised values."""
        embedded = self.embedding(torch.relu(self.shared(self.pooling(x))))
        return {task: head(embedded) for task, head in zip(self.tasks, self.heads, strict=True)}


def eliminate(
    how: Elimination,
    tasks: Mapping[str, Task],
    data: Dataset,
    layer_names: Sequence[str],
    progress: Callable[[], None] = lambda: None,
) -> tuple[LayerElimination, Fold]:
    """Runs the elimination on one view.

    Args:
        how: the section of params.yaml.
        tasks: the tasks it names.
        data: features [utterances, layers, dim] of the view it names, all layers.
        layer_names: names of those layers.
        progress: called after each round; there is one per layer.

    Raises:
        TrainingError: labels or splits that cannot work.
    """
    goals = [targets(name, tasks[name], data.labels) for name in how.tasks]
    split = three_way(data.labels, data.contents, how.folds, how.test)
    for goal in goals:
        if not all(goal.known[part].any() for part in (split.train, split.valid, split.test)):
            raise TrainingError(
                f"task {goal.name}: a part of the split has no labelled utterance; label more, or drop it"
            )
    values = data.features[how.view]
    standardise = Standardise(*values.shape[1:])
    standardise.fit(values, split.train)
    layers = standardise(torch.from_numpy(np.ascontiguousarray(values)))

    def one_round(kept: tuple[str, ...]) -> Round:
        numbers = [list(layer_names).index(layer) for layer in kept]
        result = train_round(how, goals, layers[:, numbers].contiguous(), kept, split)
        progress()
        return result

    return LayerElimination(one_round).fit(layer_names), split


def train_round(how: Elimination, goals: Sequence[Targets], x: Tensor, names: Sequence[str], split: Fold) -> Round:
    """Trains from scratch on standardised layers `x` [utterances, layers, dim] and scores both held-out parts."""
    torch.manual_seed(how.seed)
    model = UnifiedEmbedding(len(names), x.shape[2], how, {goal.name: goal.num_outputs for goal in goals})
    fit(model, [x], goals, split.train, split.valid, how, how.seed)
    weights = model.pooling.weights.detach().tolist()
    valid, test = (_score(model, goals, x, rows) for rows in (split.valid, split.test))
    return Round(dict(zip(names, weights, strict=True)), valid, test)


def _score(model: nn.Module, goals: Sequence[Targets], x: Tensor, rows: np.ndarray) -> dict[str, float]:
    given = outputs(model, [x], rows)
    result = {}
    for goal in goals:
        known = goal.known[rows]
        predicted, _ = answers(goal, given[goal.name])
        result[goal.name] = score(goal.task.kind, goal.values[rows][known], predicted[known])
    return result | {"mean": float(np.mean(list(result.values())))}
