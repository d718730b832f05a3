"""Utterances with their features and labels, and the labels of one task as numbers.

What numbers they become is for the kind of the task (`trainers.tasks`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from strata.trainers.inputs.pooled import Pooled
from strata.trainers.spec import Task
from strata.trainers.tasks import KINDS
from strata.trainers.tasks.contract import Kind

ROUNDING_S = 0.0005
"""That two segments may share without overlapping: tables round times to milliseconds, each by itself."""


class TrainingError(ValueError):
    """Labels or features that no head can be trained on; says what was expected, found, and the next step."""


@dataclass(frozen=True)
class Segments:
    """Of which recording each utterance is which part; every field has one entry per utterance, in one order."""

    recordings: Sequence[str]
    """Names of the recordings: the same for what lies in one file, or in copies of it."""
    start_s: np.ndarray
    end_s: np.ndarray

    def overlaps(self) -> np.ndarray:
        """Numbers [utterances] that two share if they overlap by more than `ROUNDING_S`, directly or in a chain."""
        recording = pd.factorize(np.asarray(self.recordings, dtype=object))[0]
        start, end = (np.rint(np.asarray(side) * 1e6).astype(np.int64) for side in (self.start_s, self.end_s))
        # One after the other on one line, so that none reaches into the next.
        offset = recording * (end.max(initial=0) + 1)
        start, end = start + offset, end + offset
        order = np.lexsort([end, start])
        reached = np.maximum.accumulate(end[order])
        begins = np.append(True, start[order][1:] + ROUNDING_S * 1e6 >= reached[:-1])[: len(order)]
        numbers = np.empty(len(order), np.int64)
        numbers[order] = np.cumsum(begins) - 1
        return numbers


@dataclass(frozen=True)
class Dataset:
    """Utterances with their features and labels; every field has one entry per utterance, in one order."""

    utterances: Sequence[str]
    contents: Sequence[str]
    """Identity of the audio: utterances that share it never stand on both sides of a split."""
    labels: pd.DataFrame
    features: Mapping[str, Pooled | np.ndarray]
    """For each view float32 [utterances, layers, dim]."""
    corpora: Sequence[str] = ()
    """Where each comes from, for tasks that only some corpora label."""
    seen: frozenset[str] = frozenset()
    """Contents of the audio that the model behind the features was trained on, never to be tested on."""
    segments: Segments | None = None
    """Of which recording each is which part; each is one of its own where not given."""

    @cached_property
    def rank(self) -> np.ndarray:
        """The place [utterances] of each among all by their names, in which they are trained on and scored: whatever
        order they come in, the result is the same."""
        names = [np.asarray(self.utterances, dtype=str)]
        if len(set(self.utterances)) < len(self.utterances):
            names.insert(0, np.asarray(self.contents, dtype=str))
        order = np.lexsort(names)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return rank

    def __len__(self) -> int:
        return len(self.utterances)


@dataclass(frozen=True)
class Targets:
    """One task's labels for all utterances."""

    name: str
    task: Task
    values: np.ndarray
    """As its kind has them, [utterances]: class numbers, or values."""
    classes: tuple[str, ...]
    """Names of the classes, sorted; none where it has no classes."""

    @property
    def kind(self) -> Kind:
        """What kind of task it is."""
        return KINDS[self.task.kind]

    @property
    def known(self) -> np.ndarray:
        """Where the label is known, bool [utterances]."""
        return self.kind.known(self.values)

    @property
    def num_outputs(self) -> int:
        """Numbers that a head gives for this task."""
        return self.kind.num_outputs(self.classes)

    def scaled(self, train: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Targets as a loss takes them, and mean and scale for `training.fit.in_unit`: see `Kind.scaled`."""
        return self.kind.scaled(self.values, train)

    def names(self, numbers: np.ndarray) -> np.ndarray:
        """Class numbers as names, None for -1; values as they are."""
        return self.kind.names(numbers, self.classes)

    def numbers(self, names: pd.Series) -> np.ndarray:
        """Inverse of `names`, for known labels."""
        return self.kind.numbers(names, self.classes)

    def score(self, predicted: np.ndarray, rows: np.ndarray) -> float:
        """One number between −1 and 1, higher is better, by which tasks of different kinds can be averaged.

        Args:
            predicted: what `Kind.predictions` made of the outputs for `rows`.
            rows: numbers of utterances, some of them labelled.
        """
        known = self.known[rows]
        found = self.kind.scores(self.values[rows][known], predicted[known])
        return found[self.kind.comparable(self.task.primary)]


def targets_of(name: str, task: Task, labels: pd.DataFrame, corpora: Sequence[str] = ()) -> Targets:
    """A task's labels as numbers.

    Args:
        name: of the task.
        task: where its labels stand.
        labels: one row per utterance.
        corpora: the corpus of each utterance; may be left out where the task names none.

    Raises:
        TrainingError: the column is absent, not a finite number where it must be one, or has too few distinct values to
            learn from.
    """
    column = task.label or name
    if column not in labels:
        known = ", ".join(labels.columns)
        raise TrainingError(f"task {name}: the manifest has no label {column!r}; it has {known}")
    series = labels[column]
    if task.corpora:
        # As objects: a column of whole numbers would become one of floats, in which those beyond 2^53 merge.
        series = series.astype(object).where(np.isin(np.asarray(corpora, dtype=object), task.corpora))
    try:
        return Targets(name, task, *KINDS[task.kind].read(series))
    except ValueError as error:
        raise TrainingError(f"task {name}: label {column!r} {error}") from None
