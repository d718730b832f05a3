"""Everything about every cell of a grid, as compact JSON from which the page draws a cell's figures on request.

Confusions are counted in utterances, points thinned out and losses rounded here, since hundreds of cells have to travel
in one page. Knows no HTML; what it returns is safe inside a `script` element.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from strata.pipeline.report import scores
from strata.pipeline.report.figures import finite
from strata.pipeline.results import ranking
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.results.reading import Gap, reason
from strata.pipeline.show.tables import counted

MOST_POINTS = 300
"""Points of a regression's picture."""
MOST_EPOCHS = 80
"""Points of a loss curve; of a longer one every second, third, … epoch is drawn, and the best one always."""
DIGITS = 4
"""Significant digits of losses and predictions."""


def embedded(cells: Sequence[ExperimentResult], gaps: list[Gap]) -> str:
    """The JSON text: `classes`, lists of names that cells share, and `cells` by name; empty where there are no cells.

    Args:
        cells: whose tables are read here, one cell after the other.
        gaps: what cannot be shown; appended to.
    """
    lists: dict[tuple[str, ...], int] = {}
    found, broken = {}, []
    for cell in cells:
        try:
            found[cell.name] = _cell(cell.with_tables(), lists)
        except Exception as error:  # whatever ails one cell, it must not cost the reader the others
            broken.append(f"{cell.name} ({reason(error)})")
    if broken:
        count = f", and of {len(broken) - 1} more" if len(broken) > 1 else ""
        gaps.append(Gap(f"the details of cell {broken[0]}{count}"))
    return _safe({"classes": list(lists), "cells": found}) if found else ""


def _safe(content: Mapping) -> str:
    """JSON that ends no `script` element, whatever a label holds, and that JavaScript reads as it was."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _cell(cell: ExperimentResult, lists: dict[tuple[str, ...], int]) -> dict[str, Any]:
    facts = [ranking.encoders([cell])] if cell.config.get("encoder") else []
    facts += [counted(cell.num_utterances, "utterance")] if cell.num_utterances else []
    facts += [counted(cell.num_folds, "fold")] if cell.num_folds else []
    facts += [counted(len(cell.seeds), "seed")] if len(cell.seeds) > 1 else []
    table = scores.metrics(cell)
    return {
        "setup": cell.setup.replace("->", "→"),
        "views": " + ".join(cell.views),
        "corpora": " + ".join(cell.corpora),
        "facts": facts,
        "scores": [[field.text for field in row] for row in table.rows],
        "notes": list(table.notes),
        "tasks": [task for name in cell.tasks if (task := _task(cell, name, lists))],
        "curves": _curves(cell.curves),
    }


def _task(cell: ExperimentResult, name: str, lists: dict[tuple[str, ...], int]) -> dict[str, Any] | None:
    """What the cell predicted: `confusion`, flat triples of true class, predicted class and count; or `points`, flat
    pairs of truth and prediction."""
    predictions, kind = scores.predictions(cell, name), cell.kinds[name]
    if predictions.empty or kind not in ("classification", "binary", "regression"):
        return None
    if kind == "regression":
        pairs = predictions.apply(finite).dropna()[["true", "predicted"]].to_numpy()
        step = np.random.default_rng(0).permutation(len(pairs))[:MOST_POINTS]
        points = _rounded(pairs[np.sort(step)].ravel())
        return {"name": name, "points": points, "count": len(pairs)} if points else None
    classes, true, predicted = scores.coded(predictions, cell.classes.get(name, ()))
    pairs, places = np.unique(true * len(classes) + predicted, return_inverse=True)
    counts = np.bincount(places, predictions["weight"]).round(2)  # utterances, of several seeds their means
    triples = zip(pairs // len(classes), pairs % len(classes), counts, strict=True)
    flat = [value for i, j, count in triples for value in (int(i), int(j), _plain(count))]
    return {"name": name, "classes": lists.setdefault(tuple(classes), len(lists)), "confusion": flat}


def _plain(count: float) -> int | float:
    """Whole numbers without a point, which take less room in the page."""
    return int(count) if count == int(count) else float(count)


def _curves(curves: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Per group of tasks the losses of each run: epochs, training and validation loss, and the place of the best."""
    if curves is None or curves.empty:
        return []
    keys = ["seed", "fold"] if "seed" in curves else ["fold"]
    drawn = []
    for group, members in curves.groupby("task_group", sort=False):
        runs = [
            _run(run.sort_values("epoch"), dict(zip(keys, key, strict=True)))
            for key, run in members.groupby(keys, sort=True)
        ]
        drawn.append({"name": str(group), "runs": runs})
    return drawn


def _run(run: pd.DataFrame, key: Mapping[str, Any]) -> dict[str, Any]:
    valid = run["valid_loss"].to_numpy(float)
    best = int(np.nanargmin(valid)) if np.isfinite(valid).any() else None
    stride = -(-len(run) // MOST_EPOCHS)
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
