"""Many trainings of wavCSE's model at once: the runs of one round of an elimination, whose layers are averaged.

A run is a fold, a seed, and the layers that it sees. All runs of a round have models of one shape, so their weights are
stacked, [runs, …], and every product, penalty and step of Adam is one call for all of them. The updates are those of
`training.fit.fit` on each run's own `UnifiedEmbedding`, batch by batch (`tests/trainers/test_together.py`); a run that
stops early leaves the stack.

The weighted average reads its layers where they lie (`embedding_bag`): no batch is ever copied together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from strata.trainers.folds import Fold
from strata.trainers.inputs.data import Targets, TrainingError
from strata.trainers.inputs.standardise import Standardise
from strata.trainers.spec import Elimination
from strata.trainers.training.fit import in_unit
from strata.trainers.training.memory import keep_memory
from strata.trainers.training.stack import Stack

TABLE_BYTES = 2 * 2**30
"""Of standardised features at a time, or those of one fold: each has its own, by its own training data."""
EVALUATION_ROWS = 4096
"""Utterances of each run that are asked at a time: bounds the memory."""
STACK_BYTES = 2**30
"""Of the weights that are trained in one stack."""


@dataclass(frozen=True)
class Run:
    """One model to be trained."""

    fold: int
    """Number of its fold."""
    layers: tuple[int, ...]
    """Numbers of the layers that it sees."""
    seed: int


@dataclass(frozen=True)
class Ran:
    """What came of a run."""

    weights: np.ndarray
    """[layers]: their learned shares."""
    outputs: Mapping[str, np.ndarray]
    """For each task its outputs for the fold's validation utterances, then those of its test utterances: see
    `training.fit.outputs`."""
    curve: list[tuple[int, float, float]]
    """Epoch, training loss, validation loss."""


class Together:
    """Trains runs on the layers of one view."""

    def __init__(self, how: Elimination, targets: Sequence[Targets], values: np.ndarray, folds: Sequence[Fold]):
        """Takes what all runs share.

        Args:
            how: optimisation and widths.
            targets: the tasks.
            values: float32 [utterances, layers, dim].
            folds: by their numbers.
        """
        self.how, self.targets, self.values, self.folds = how, targets, values, folds
        self._tables: dict[tuple[int, ...], Tensor] = {}
        self._targets: dict[int, list[tuple[Tensor, float, float]]] = {}

    def train(self, runs: Sequence[Run]) -> list[Ran]:
        """Trains all runs; what came of each, in their order.

        Raises:
            TrainingError: the validation loss of one was never finite.
        """
        keep_memory()
        found: dict[int, Ran] = {}
        for places in self._stacks(runs):
            found.update(zip(places, self._train([runs[place] for place in places]), strict=True))
        return [found[place] for place in range(len(runs))]

    def _stacks(self, runs: Sequence[Run]) -> list[list[int]]:
        """Places of the runs that go into one stack: of one shape and number of steps, as many as memory allows."""
        weights = self.how.shared * (self.values.shape[2] + self.how.embedding)
        weights += self.how.embedding * sum(target.num_outputs for target in self.targets)
        most_runs, most_folds = max(1, STACK_BYTES // (4 * weights)), max(1, TABLE_BYTES // self.values.nbytes)
        stacks: list[list[int]] = []
        for place in sorted(range(len(runs)), key=lambda place: (self._shape(runs[place]), runs[place].fold)):
            stack = stacks[-1] if stacks else []
            if (
                not stack
                or self._shape(runs[stack[0]]) != self._shape(runs[place])
                or len(stack) == most_runs
                or len({runs[other].fold for other in [*stack, place]}) > most_folds
            ):
                stacks.append([])
            stacks[-1].append(place)
        return stacks

    def _shape(self, run: Run) -> tuple[int, int]:
        return len(run.layers), -(-len(self.folds[run.fold].train) // self.how.batch_size)

    def _train(self, runs: Sequence[Run]) -> list[Ran]:
        for run in runs:
            self._targets.setdefault(run.fold, self._scaled_targets(self.folds[run.fold].train))
        table, begins = self._table([run.fold for run in runs])
        sizes = {target.name: target.num_outputs for target in self.targets}
        shape = len(runs[0].layers), self.values.shape[2]
        stack = Stack(self.how, shape, sizes, [target.task for target in self.targets], [run.seed for run in runs])
        courses = [_Course(run, self.folds[run.fold], begin) for run, begin in zip(runs, begins, strict=True)]
        active = courses
        for epoch in range(1, self.how.epochs + 1):
            totals = torch.zeros(len(active))
            for rows in zip(*(course.batches(self.how.batch_size) for course in active), strict=True):
                losses = stack.step(table, self._bags(active, rows), self._labels(active, rows))
                totals += losses * torch.tensor([len(part) for part in rows])
            rows = [torch.tensor(course.fold.valid) for course in active]
            losses = stack.losses(self._outputs(stack, table, active, rows), self._labels(active, rows))
            for place, course in enumerate(active):
                course.take(epoch, totals[place].item() / len(course.fold.train), losses[place].item(), stack, place)
            going = [place for place, course in enumerate(active) if course.goes_on(epoch, self.how.patience)]
            if not going:
                break
            if len(going) < len(active):
                stack.keep(going)
                active = [active[place] for place in going]
        if any(course.best is None for course in courses):
            raise TrainingError(f"training diverged: no finite validation loss in {epoch} epochs; lower learning_rate")
        stack.load([course.best for course in courses])
        rows = [torch.from_numpy(np.concatenate([course.fold.valid, course.fold.test])) for course in courses]
        outputs = self._outputs(stack, table, courses, rows)
        return [self._ran(course, place, outputs) for place, course in enumerate(courses)]

    def _ran(self, course: "_Course", place: int, outputs: Mapping[str, Tensor]) -> Ran:
        found = {}
        count = len(course.fold.valid) + len(course.fold.test)
        for target, (_, mean, scale) in zip(self.targets, self._targets[course.run.fold], strict=True):
            found[target.name] = in_unit(outputs[target.name][place, :count], mean, scale).numpy()
        return Ran(course.best["logits"].softmax(0).numpy(), found, course.curve)

    def _scaled_targets(self, train: np.ndarray) -> list[tuple[Tensor, float, float]]:
        found = (target.scaled(train) for target in self.targets)
        return [(torch.from_numpy(values), mean, scale) for values, mean, scale in found]

    def _table(self, folds: Sequence[int]) -> tuple[Float[Tensor, "rows dim"], list[int]]:
        """The standardised layers of several folds below each other, and the row at which each fold's begin."""
        wanted = tuple(dict.fromkeys(folds))
        rows = len(self.values) * self.values.shape[1]
        if wanted not in self._tables:
            self._tables.clear()
            table = torch.empty(len(wanted), *self.values.shape)
            for fold, part in zip(wanted, table, strict=True):
                standardise = Standardise(*self.values.shape[1:])
                standardise.fit(self.values, self.folds[fold].train)
                standardise(torch.from_numpy(self.values), out=part)
            self._tables[wanted] = table.flatten(0, 2)
        return self._tables[wanted], [wanted.index(fold) * rows for fold in folds]

    def _outputs(
        self, stack: Stack, table: Tensor, courses: Sequence["_Course"], rows: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Every task's outputs for some utterances of each run, computed part by part."""
        longest = max(map(len, rows))
        parts = [
            stack.outputs(table, self._bags(courses, [row[start : start + EVALUATION_ROWS] for row in rows]))
            for start in range(0, longest, EVALUATION_ROWS)
        ]
        return {target.name: torch.cat([part[target.name] for part in parts], dim=1) for target in self.targets}

    def _bags(self, courses: Sequence["_Course"], rows: Sequence[Tensor]) -> Int64[Tensor, "runs batch layers"]:
        """Where in the table the layers of every utterance lie; runs with fewer utterances are filled up."""
        padded = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        num_layers = self.values.shape[1]
        pairs = zip(courses, padded, strict=True)
        return torch.stack([course.begin + row[:, None] * num_layers + course.layers for course, row in pairs])

    def _labels(self, courses: Sequence["_Course"], rows: Sequence[Tensor]) -> list[Tensor]:
        """For each task [runs, batch]; what fills up is unlabelled."""
        labels = []
        for number, target in enumerate(self.targets):
            found = [self._targets[c.run.fold][number][0][part] for c, part in zip(courses, rows, strict=True)]
            labels.append(nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=target.kind.unlabelled))
        return labels


@dataclass
class _Course:
    """How one run fares."""

    run: Run
    fold: Fold
    begin: int
    """First row of its fold's table."""
    best: dict[str, Tensor] | None = None
    """The weights of its best epoch."""
    best_epoch: int = 0
    best_loss: float = np.inf
    curve: list[tuple[int, float, float]] = field(default_factory=list)

    def __post_init__(self):
        self.layers = torch.tensor(self.run.layers)
        self.generator = torch.Generator().manual_seed(self.run.seed)

    def batches(self, size: int) -> tuple[Tensor, ...]:
        """The utterances of the next epoch's batches."""
        train = torch.tensor(self.fold.train)
        return train[torch.randperm(len(train), generator=self.generator)].split(size)

    def take(self, epoch: int, train_loss: float, valid_loss: float, stack: Stack, place: int) -> None:
        """Notes an epoch, and its weights where they are the best so far."""
        self.curve.append((epoch, train_loss, valid_loss))
        if valid_loss < self.best_loss:
            self.best_epoch, self.best_loss, self.best = epoch, valid_loss, stack.copy_of(place)

    def goes_on(self, epoch: int, patience: int) -> bool:
        """Whether it is still to be trained after this epoch."""
        return self.best is None or epoch - self.best_epoch < patience
