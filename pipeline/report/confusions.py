"""What experiments predicted, task by task, and which classes they took for which. Knows no files and no HTML."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer

from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.show.names import natural_order
from strata.pipeline.show.tables import Cell, Column, Table, number

NAMED_CLASSES = 48
"""Classes up to which a confusion matrix names its rows and columns."""
COUNTED_CLASSES = 12
"""Classes up to which a confusion matrix prints its numbers; of more, a table tells the confusions that matter."""


@dataclass(frozen=True)
class Confusions:
    """How often which class was taken for which: the pairs that occur, by true and then by predicted class."""

    classes: tuple[str, ...]
    true: Integer[np.ndarray, " pairs"]
    """Places in `classes`."""
    predicted: Integer[np.ndarray, " pairs"]
    """Places in `classes`."""
    counts: Float[np.ndarray, " pairs"]
    """Utterances; of several seeds their means."""

    @property
    def totals(self) -> Float[np.ndarray, " classes"]:
        """Utterances of each true class."""
        return np.bincount(self.true, self.counts, minlength=len(self.classes)).round(6)


def predictions(result: ExperimentResult, task: str) -> pd.DataFrame:
    """The columns `true` and `predicted` of a task, utterances without label or prediction left out.

    An utterance has a prediction per seed: `weight` is the part of it that each of them is, so that weights add up to
    utterances.
    """
    columns, table = [f"{task}.true", f"{task}.predicted"], result.predictions
    if table is None or not set(columns) <= set(table.columns):
        return pd.DataFrame({"true": [], "predicted": [], "weight": []})
    table = table.dropna(subset=columns)
    found = table[columns].set_axis(["true", "predicted"], axis=1)
    if "utterance" not in table:
        return found.assign(weight=1.0 / max(1, len(result.seeds)))
    return found.assign(weight=1.0 / table["utterance"].map(table["utterance"].value_counts()))


def confusions(found: pd.DataFrame, known: Iterable) -> Confusions:
    """Counts what classes were taken for.

    Args:
        found: as `predictions` gives them.
        known: the classes in the trainers' order; others that occur follow them.
    """
    from strata.trainers.tasks.classification import class_name

    codes, values = pd.factorize(pd.concat([found["true"], found["predicted"]], ignore_index=True))
    names = [class_name(value) for value in values]
    classes = tuple(dict.fromkeys([*map(class_name, known), *sorted(names, key=natural_order)]))
    place = {name: i for i, name in enumerate(classes)}
    numbers = np.array([place[name] for name in names], dtype=int)[codes]
    true, predicted = numbers[: len(found)], numbers[len(found) :]
    pairs, places = np.unique(true * len(classes) + predicted, return_inverse=True)
    counts = np.bincount(places, found["weight"], minlength=len(pairs))
    return Confusions(classes, pairs // len(classes), pairs % len(classes), counts.round(6))  # thirds become whole


def most_frequent(found: Confusions, task: str, most: int = 10) -> Table:
    """The pairs of classes that are confused most often.

    Args:
        found: the confusions of all classes.
        task: whose classes they are.
        most: pairs that are shown at most.
    """
    wrong = np.flatnonzero((found.true != found.predicted) & (found.counts > 0))
    shown = wrong[np.argsort(-found.counts[wrong], kind="stable")][:most]
    totals = found.totals
    rows = tuple(
        (
            Cell(found.classes[found.true[i]]),
            Cell(found.classes[found.predicted[i]]),
            Cell(number(count, 0 if count == int(count) else 1), value=float(count)),
            Cell(number(100 * count / totals[found.true[i]], 1)),
        )
        for i, count in zip(shown, found.counts[shown], strict=True)
    )
    columns = (Column("true"), Column("predicted"), Column("utterances", numeric=True))
    whole = bool((found.counts == found.counts.astype(int)).all())
    return Table(
        f"{task}: the most frequent confusions",
        (*columns, Column("% of the true class", numeric=True)),
        rows,
        notes=() if whole else ("Utterances are means over the seeds.",),
    )
