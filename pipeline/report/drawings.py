"""What the page draws by itself: confusions, predictions against truth and losses, as compact JSON for drawings.js.

The experiments that have a heading of their own and the hundreds of cells of grids, which open on request, are drawn
from the same form by the same code. Confusions are counted in utterances, points thinned out and losses rounded here,
since all of them travel in one page. Knows no HTML; the text is safe inside a `script` element.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from strata.pipeline.progress import counted
from strata.pipeline.report import confusions, scores
from strata.pipeline.report.confusions import Confusions
from strata.pipeline.report.figures import finite
from strata.pipeline.results import ranking
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.results.reading import Gap, attempt, reason
from strata.pipeline.show.tables import Table
from strata.trainers.tasks import KINDS

DIGITS = 4
"""Significant digits of losses and predictions."""


@dataclass(frozen=True)
class Grain:
    """How fine a picture is."""

    points: int
    """Of a regression's picture."""
    epochs: int
    """Of a loss curve; of a longer one every second, third, … epoch is drawn, and the best one always."""


EXPERIMENT, CELL = Grain(1_500, 400), Grain(300, 80)


class Drawings:
    """The pictures of a page, as they come about."""

    def __init__(self, gaps: list[Gap]):
        """Starts an empty collection.

        Args:
            gaps: what cannot be shown; appended to.
        """
        self.gaps = gaps
        self._classes: dict[tuple[str, ...], int] = {}
        self._experiments: dict[str, dict[str, Any]] = {}
        self._cells: dict[str, dict[str, Any]] = {}

    def add_experiment(self, key: str, result: ExperimentResult) -> tuple[bool, list[Table]]:
        """Takes in an experiment with its tables; one task that fails becomes a gap.

        Args:
            key: what the page calls it by.
            result: of which a folder below results/.

        Returns:
            Whether there is anything to draw; and, of tasks with many classes, the most frequent confusions.
        """
        tasks, tables = [], []
        for name in result.kinds:
            what = f"the figure of task {name} in experiment {result.name}"
            if not (made := attempt(self.gaps, what, lambda name=name: self._task(result, name, EXPERIMENT))):
                continue
            drawn, found = made
            tasks.append(drawn)
            if found is not None and len(found.classes) > confusions.COUNTED_CLASSES:
                tables.append(confusions.most_frequent(found, name))
        what = f"the training curves of experiment {result.name}"
        curves = attempt(self.gaps, what, lambda: _curves(result.curves, EXPERIMENT)) or []
        if tasks or curves:
            self._experiments[key] = {"name": result.name, "tasks": tasks, "curves": curves}
        return key in self._experiments, tables

    def add_cells(self, cells: Sequence[ExperimentResult]) -> None:
        """Takes in everything about cells of grids, whose tables are read here, one cell after the other."""
        broken = []
        for cell in cells:
            try:
                self._cells[cell.name] = self._cell(cell.with_tables())
            except Exception as error:  # whatever ails one cell, it must not cost the reader the others
                broken.append(f"{cell.name} ({reason(error)})")
        if broken:
            count = f", and of {len(broken) - 1} more" if len(broken) > 1 else ""
            self.gaps.append(Gap(f"the details of cell {broken[0]}{count}"))

    @property
    def text(self) -> str:
        """The JSON text: `classes`, lists of names that many share, `experiments` and `cells` by name; empty where
        there is nothing to draw."""
        if not self._experiments and not self._cells:
            return ""
        content = {
            "named": confusions.NAMED_CLASSES,
            "counted": confusions.COUNTED_CLASSES,
            "classes": list(self._classes),
            "experiments": self._experiments,
            "cells": self._cells,
        }
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        for letter in "<>&\u2028\u2029":  # no label ends the element, and JavaScript reads each as it was
            text = text.replace(letter, f"\\u{ord(letter):04x}")
        return text

    def _cell(self, cell: ExperimentResult) -> dict[str, Any]:
        facts = [ranking.encoders([cell])] if cell.config.get("encoder") else []
        facts += [counted(cell.num_utterances, "utterance")] if cell.num_utterances else []
        facts += [counted(cell.num_folds, "fold")] if cell.num_folds else []
        facts += [counted(len(cell.seeds), "seed")] if len(cell.seeds) > 1 else []
        table = scores.metrics(cell)
        tasks = [made[0] for name in cell.tasks if (made := self._task(cell, name, CELL))]
        return {
            "name": cell.name,
            "setup": cell.setup.replace("->", "→"),
            "views": " + ".join(cell.views),
            "corpora": " + ".join(cell.corpora),
            "facts": facts,
            "scores": [[field.text for field in row] for row in table.rows],
            "notes": list(table.notes),
            "tasks": tasks,
            "curves": _curves(cell.curves, CELL),
        }

    def _task(
        self, result: ExperimentResult, name: str, grain: Grain
    ) -> tuple[dict[str, Any], Confusions | None] | None:
        """What was predicted: `confusion`, flat triples of true class, predicted class and count; or `points`, flat
        pairs of truth and prediction, and how many pairs there are; None where there is nothing to draw."""
        found, kind = confusions.predictions(result, name), KINDS.get(result.kinds[name])
        if found.empty or kind is None:
            return None
        if not kind.has_classes:
            return _points(found, name, grain), None
        told = confusions.confusions(found, result.classes.get(name, ()))
        triples = zip(told.true, told.predicted, told.counts.round(2), strict=True)
        flat = [value for i, j, count in triples for value in (int(i), int(j), _plain(count))]
        place = self._classes.setdefault(told.classes, len(self._classes))
        return {"name": name, "classes": place, "confusion": flat}, told


def _points(found: pd.DataFrame, name: str, grain: Grain) -> dict[str, Any]:
    found = found.apply(finite).dropna()
    if found.empty:
        raise ValueError("no prediction is a pair of numbers")
    pairs = found[["true", "predicted"]].to_numpy()
    shown = np.sort(np.random.default_rng(0).permutation(len(pairs))[: grain.points])
    # Of several seeds a point is one of an utterance's predictions.
    each = "utterance" if bool((found["weight"] == 1).all()) else "prediction"
    return {"name": name, "points": _rounded(pairs[shown].ravel()), "count": len(pairs), "each": each}


def _plain(count: float) -> int | float:
    """Whole numbers without a point, which take less room in the page."""
    return int(count) if count == int(count) else float(count)


def _curves(curves: pd.DataFrame | None, grain: Grain) -> list[dict[str, Any]]:
    """Per group of tasks the losses of each run: epochs, training and validation loss, and the place of the best."""
    if curves is None or curves.empty:
        return []
    keys = ["seed", "fold"] if "seed" in curves else ["fold"]
    drawn = []
    for group, members in curves.groupby("task_group", sort=False):
        runs = [
            _run(run.sort_values("epoch"), dict(zip(keys, key, strict=True)), grain)
            for key, run in members.groupby(keys, sort=True)
        ]
        drawn.append({"name": str(group), "runs": runs})
    return drawn


def _run(run: pd.DataFrame, key: Mapping[str, Any], grain: Grain) -> dict[str, Any]:
    valid = run["valid_loss"].to_numpy(float)
    best = int(np.nanargmin(valid)) if np.isfinite(valid).any() else None
    stride = -(-len(run) // grain.epochs)
    shown = [i for i in range(len(run)) if i % stride == 0 or i in (best, len(run) - 1)]
    return {
        **{name: int(value) for name, value in key.items()},
        "epoch": run["epoch"].to_numpy()[shown].astype(int).tolist(),
        "train": _rounded(run["train_loss"].to_numpy(float)[shown]),
        "valid": _rounded(valid[shown]),
        "best": None if best is None else shown.index(best),
    }


def _rounded(values: np.ndarray) -> list[float | None]:
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in values]
