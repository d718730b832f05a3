"""Labels as numbers: what a task has to predict, and for which utterances it is known.

Values keep the precision in which they were given, float64, from the label to the prediction: a time in seconds since
1970 differs from the next in the tenth digit, where float32 has seven. Only what a loss is given is float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from strata.trainers.inputs.scale import is_constant
from strata.trainers.spec import Task

MOST = 1e150
"""That a regression label may be: the squares of larger ones are not finite."""

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
    features: Mapping[str, np.ndarray]
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
        order = np.lexsort([np.asarray(self.contents, dtype=str), np.asarray(self.utterances, dtype=str)])
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
    """Class numbers, int64 [utterances], -1 where unlabelled; for regression float64, NaN where unlabelled."""
    classes: tuple[str, ...]
    """Names of the classes, sorted; empty for regression."""

    @property
    def known(self) -> np.ndarray:
        """Where the label is known, bool [utterances]."""
        return ~np.isnan(self.values) if self.task.kind == "regression" else self.values >= 0

    @property
    def num_outputs(self) -> int:
        """Numbers that a head gives for this task."""
        return len(self.classes) if self.task.kind == "classification" else 1

    def scaled(self, train: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Targets as a loss takes them: regression targets with mean 0 and deviation 1 over the training utterances.

        Constant ones are only centred; how little counts as constant is judged by float64, in which labels are kept,
        since two that differ were given as different (`inputs.scale`).

        Returns:
            Class numbers, or float32 (values − mean) / scale, within ± 1e15 so that squares of it are finite; the mean
            and the scale, 0 and 1 for classes; `training.fit.in_unit` is the way back.
        """
        if self.task.kind != "regression":
            return self.values, 0.0, 1.0
        known = self.values[train][self.known[train]].astype(np.float64)
        mean, sd = (float(known.mean()), float(known.std())) if len(known) else (0.0, 1.0)
        scale = 1.0 if is_constant(mean, sd, np.float64) else sd
        return np.clip((self.values - mean) / scale, -1e15, 1e15).astype(np.float32), mean, scale

    def names(self, numbers: np.ndarray) -> np.ndarray:
        """Class numbers as names, None for -1; regression values as they are."""
        if self.task.kind == "regression":
            return numbers
        return np.array([*self.classes, None], dtype=object)[numbers]

    def numbers(self, names: pd.Series) -> np.ndarray:
        """Inverse of `names`, for known labels."""
        if self.task.kind == "regression":
            return names.to_numpy(np.float64)
        return names.map({c: i for i, c in enumerate(self.classes)}).to_numpy(np.int64)


def targets(name: str, task: Task, labels: pd.DataFrame, corpora: Sequence[str] = ()) -> Targets:
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
    if task.kind == "regression":
        values = pd.to_numeric(series, errors="coerce").to_numpy(np.float64, copy=True, na_value=np.nan)
        unread = series[np.isnan(values) & series.notna().to_numpy()]
        if len(unread):
            raise TrainingError(f"task {name}: label {column!r} must be a number, found {unread.iloc[0]!r}")
        beyond = series[np.abs(values) > MOST]
        if len(beyond):
            raise TrainingError(
                f"task {name}: label {column!r} must be a finite number, at most ± {MOST:g}, found {beyond.iloc[0]} "
                f"({len(beyond)} of {int(series.notna().sum())} labels); mend them, or leave them empty"
            )
        if len(np.unique(values[~np.isnan(values)])) < 2:
            raise TrainingError(f"task {name}: label {column!r} has fewer than two distinct values; nothing to learn")
        return Targets(name, task, values, ())
    text = series.map(class_name, na_action="ignore")
    classes = tuple(sorted(text.dropna().unique()))
    if len(classes) < 2 or (task.kind == "binary" and len(classes) != 2):
        wanted = "exactly two classes" if task.kind == "binary" else "two classes or more"
        raise TrainingError(
            f"task {name}: label {column!r} needs {wanted}, found {len(classes)}: {', '.join(classes[:5])}"
        )
    numbers = text.map({c: i for i, c in enumerate(classes)}).fillna(-1).to_numpy(np.int64, copy=True)
    return Targets(name, task, numbers, classes)


def class_name(value: object) -> str:
    """A label as the name of a class: whole numbers without a point, every digit kept, so that no two classes merge."""
    if isinstance(value, float | np.floating):
        return str(int(value)) if value.is_integer() else repr(float(value))
    return str(value)
