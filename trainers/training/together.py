"""Many trainings of wavCSE's model at once: the runs of one round of an elimination, whose layers are averaged.

A run is a fold, a seed, and the layers that it sees. All runs of a round have models of one shape, so their weights are
stacked, [runs, …], and every product, penalty and step of Adam is one call for all of them. The updates are those of
`training.fit.fit` on each run's own `UnifiedEmbedding`, batch by batch (`tests/trainers/test_together.py`); a run that
stops early leaves the stack.

Batches are gathered from wherever the view lies and standardised by each run's own training data, so that memory holds
a batch of every run of a stack, however large the view is and however many folds it is divided into.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.trainers.folds import Fold
from strata.trainers.inputs.batches import shuffled
from strata.trainers.inputs.data import Targets, TrainingError
from strata.trainers.inputs.pooled import Pooled, as_pooled
from strata.trainers.inputs.standardise import Standardise
from strata.trainers.spec import Elimination
from strata.trainers.training.fit import in_unit
from strata.trainers.training.memory import keep_memory
from strata.trainers.training.stack import Stack

STACK_BYTES = 2**30
"""Of the weights that are trained in one stack."""
BATCH_BYTES = 2**29
"""Of the values that all runs of a stack are given at a time."""


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

    def __init__(
        self,
        how: Elimination,
        targets: Sequence[Targets],
        view: Pooled | np.ndarray,
        folds: Sequence[Fold],
        device: torch.device | str = "cpu",
    ):
        """Takes what all runs share.

        Args:
            how: optimisation and widths.
            targets: the tasks.
            view: float32 [utterances, layers, dim].
            folds: by their numbers.
            device: where the models lie.
        """
        self.device = torch.device(device)
        self.how, self.targets, self.view, self.folds = how, targets, as_pooled(view), folds
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
        weights = self.how.shared * (self.view.shape[2] + self.how.embedding)
        weights += self.how.embedding * sum(target.num_outputs for target in self.targets)
        stacks: list[list[int]] = []
        for place in sorted(range(len(runs)), key=lambda place: (self._shape(runs[place]), runs[place].fold)):
            stack = stacks[-1] if stacks else []
            batch = self.how.batch_size * len(runs[place].layers) * self.view.shape[2]
            most = max(1, min(STACK_BYTES // (4 * weights), BATCH_BYTES // (4 * batch)))
            if not stack or self._shape(runs[stack[0]]) != self._shape(runs[place]) or len(stack) == most:
                stacks.append([])
            stacks[-1].append(place)
        return stacks

    def _shape(self, run: Run) -> tuple[int, int]:
        return len(run.layers), -(-len(self.folds[run.fold].train) // self.how.batch_size)

    def _train(self, runs: Sequence[Run]) -> list[Ran]:
        for run in runs:
            self._targets.setdefault(run.fold, self._scaled_targets(self.folds[run.fold].train))
        sizes = {target.name: target.num_outputs for target in self.targets}
        shape = len(runs[0].layers), self.view.shape[2]
        stack = Stack(
            self.how, shape, sizes, [target.task for target in self.targets], [run.seed for run in runs], self.device
        )
        courses = [_Course(run, self.folds[run.fold], self.view, self.how.batch_size, self.device) for run in runs]
        active = courses
        for epoch in range(1, self.how.epochs + 1):
            totals = torch.zeros(len(active), device=self.device)
            for rows in zip(*(course.batches for course in active), strict=True):
                losses = stack.step(_standardised(active, rows), self._labels(active, rows))
                totals += losses * torch.tensor([len(part) for part in rows], device=self.device)
            rows = [torch.tensor(course.fold.valid) for course in active]
            losses = stack.losses(self._outputs(stack, active, rows), self._labels(active, rows))
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
        outputs = self._outputs(stack, courses, rows)
        return [self._ran(course, place, outputs) for place, course in enumerate(courses)]

    def _ran(self, course: "_Course", place: int, outputs: Mapping[str, Tensor]) -> Ran:
        found = {}
        count = len(course.fold.valid) + len(course.fold.test)
        for target, (_, mean, scale) in zip(self.targets, self._targets[course.run.fold], strict=True):
            found[target.name] = in_unit(outputs[target.name][place, :count], mean, scale).cpu().numpy()
        return Ran(course.best["logits"].softmax(0).cpu().numpy(), found, course.curve)

    def _scaled_targets(self, train: np.ndarray) -> list[tuple[Tensor, float, float]]:
        found = (target.scaled(train) for target in self.targets)
        return [(torch.from_numpy(values).to(self.device), mean, scale) for values, mean, scale in found]

    def _outputs(self, stack: Stack, courses: Sequence["_Course"], rows: Sequence[Tensor]) -> dict[str, Tensor]:
        """Every task's outputs for some utterances of each run, computed part by part."""
        longest = max(map(len, rows))
        size = max(1, BATCH_BYTES // (4 * len(courses) * len(courses[0].run.layers) * self.view.shape[2]))
        parts = [
            stack.outputs(_standardised(courses, [row[start : start + size] for row in rows]))
            for start in range(0, longest, size)
        ]
        return {target.name: torch.cat([part[target.name] for part in parts], dim=1) for target in self.targets}

    def _labels(self, courses: Sequence["_Course"], rows: Sequence[Tensor]) -> list[Tensor]:
        """For each task [runs, batch]; what fills up is unlabelled."""
        labels = []
        for number, target in enumerate(self.targets):
            found = [self._targets[c.run.fold][number][0][part] for c, part in zip(courses, rows, strict=True)]
            labels.append(nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=target.kind.unlabelled))
        return labels


class _Course:
    """How one run fares."""

    def __init__(self, run: Run, fold: Fold, view: Pooled, batch_size: int, device: torch.device):
        self.run, self.fold, self.view = run, fold, view.select(run.layers)
        self.batches = shuffled(fold.train, batch_size, run.seed, [self.view])
        self.standardise = Standardise(*self.view.shape[1:])
        self.standardise.fit(self.view, fold.train)
        self.standardise.to(device)
        self.best: dict[str, Tensor] | None = None
        """The weights of its best epoch."""
        self.best_epoch = 0
        self.best_loss = np.inf
        self.curve: list[tuple[int, float, float]] = []

    def take(self, epoch: int, train_loss: float, valid_loss: float, stack: Stack, place: int) -> None:
        """Notes an epoch, and its weights where they are the best so far."""
        self.curve.append((epoch, train_loss, valid_loss))
        if valid_loss < self.best_loss:
            self.best_epoch, self.best_loss, self.best = epoch, valid_loss, stack.copy_of(place)

    def goes_on(self, epoch: int, patience: int) -> bool:
        """Whether it is still to be trained after this epoch."""
        return self.best is None or epoch - self.best_epoch < patience


def _standardised(courses: Sequence[_Course], rows: Sequence[Tensor]) -> Float[Tensor, "runs batch layers dim"]:
    """What every run is given for some utterances of its own; runs with fewer of them are filled up."""
    device = courses[0].standardise.mean.device
    values = torch.zeros(len(courses), max(map(len, rows)), *courses[0].view.shape[1:], device=device)
    for course, part, out in zip(courses, rows, values, strict=True):
        taken, _ = course.view.take(part.numpy())
        course.standardise(torch.from_numpy(taken).to(device), out=out[: len(part)])
    return values
