"""What a layer elimination came to, in words and tables: rounds, the choice inside folds, poolings, what a cut saves.

Scores are those that the elimination averages over tasks: of classes the task's own metric, of values their
concordance. Knows no files and no HTML.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from strata.pipeline.report.poolings import NAMES
from strata.pipeline.results.eliminations import EliminationResult, num_seeds
from strata.pipeline.show.names import layer_height, layer_ranges
from strata.pipeline.show.tables import Cell, Column, Table, duration, is_number, millions, number, size

DIGITS = 4
"""After the point: rounds differ by little."""
SCORED = (
    "Scores: of classes the task's own metric (accuracy, UAR or F1) as a fraction; of regression concordance (CCC)."
)
"""What a score is that tasks of different kinds are averaged by (`trainers.tasks.metrics.score`)."""


def kept_layers(elimination: EliminationResult) -> str:
    """The outcome of an elimination in one line."""
    valid = number(elimination.best.valid.get("mean"), DIGITS)
    told = f"validation {valid}, test {number(elimination.best.test.get('mean'), DIGITS)}"
    if chosen := chosen_in_folds(elimination):
        told = f"validation {valid}; {chosen}"
    count = f"{len(elimination.support)} of {len(elimination.layer_names)}"
    return f"{layer_ranges(elimination.support)} ({count}; {told})"


def chosen_in_folds(elimination: EliminationResult) -> str:
    """The test score of an honest choice in one line; empty where the file does not tell it."""
    nested = elimination.nested
    if nested is None or not nested.kept:
        return ""
    ends = dict.fromkeys((min(nested.kept), max(nested.kept)))
    layers = "–".join(map(str, ends)) + (" layer" if set(ends) == {1} else " layers")
    where = "chosen inside each fold" if len(nested.kept) > 1 else "chosen without the test data"
    return f"{where}: {_spread(_over_folds(nested.tasks['mean']))} on test, {layers}"


def unneeded_layers(elimination: EliminationResult) -> int:
    """The layers that the upstream need not compute: those above the highest one kept, up to the view's highest.

    Both are layer numbers, since a view may keep only some layers of the upstream. `last_hidden_state` lies above all
    of them: where it is kept, nothing is saved.
    """
    kept = max(map(layer_height, elimination.support))
    heights = [height for height in map(layer_height, elimination.layer_names) if math.isfinite(height)]
    return int(max(heights) - kept) if math.isfinite(kept) else 0


def rounds(elimination: EliminationResult) -> Table:
    """Scores of every round, the chosen one marked."""
    rows = []
    for r in elimination.rounds:
        chosen = r.number == elimination.best_round
        scores = [
            Cell(_spread({"mean": split.get(key), "sd": sds.get(key)}), best=chosen)
            for split, sds in ((r.valid, r.valid_sd), (r.test, r.test_sd))
            for key in elimination.scored
        ]
        counts = (Cell(str(count), best=chosen) for count in (r.number, len(r.layers)))
        rows.append((*counts, *scores, Cell(r.dropped or "–")))
    scored = [Column(key, split, numeric=True) for split in ("validation", "test") for key in elimination.scored]
    notes = [SCORED, "The choice is made on validation, never on test."]
    if spread := spread_of(elimination):
        notes.append(spread)
    return Table(
        "Scores of every round, the chosen one in bold",
        (Column("round", numeric=True, lowest_first=True), Column("layers left", numeric=True), *scored,
         Column("dropped next")),
        tuple(rows),
        notes=tuple(notes),
    )  # fmt: skip


def spread_of(elimination: EliminationResult) -> str:
    """What the ± of its scores, and the bands of its figures, are; empty where the file tells no spread."""
    if not elimination.rounds[0].valid_sd and num_seeds(elimination.config) != 1:
        return ""
    seeds = f"SD over {elimination.num_seeds} seeds" if elimination.num_seeds > 1 else "one seed, so no SD"
    if elimination.num_folds < 2:
        return f"Validation and test: {seeds}."
    return f"Validation: {seeds}. Test: mean and SD over {elimination.num_folds} folds with as many layers left."


def inside_folds(elimination: EliminationResult) -> Table | None:
    """What every fold chose by its own validation data, and its test scores; None where the file does not tell."""
    nested = elimination.nested
    if nested is None:
        return None
    several = len(set(nested.poolings)) > 1 or len(elimination.whole) > 1
    keys = [key for key in elimination.scored if key in nested.tasks]
    rows = []
    for fold, kept in enumerate(nested.kept):
        pooling = [Cell(_name(nested.poolings[fold]))] if several else []
        scores = [_fold(nested.tasks[key], fold) for key in keys]
        rows.append((Cell(str(fold + 1)), Cell(str(kept)), *pooling, *(Cell(number(s, DIGITS)) for s in scores)))
    columns = (Column("fold"), Column("layers kept", numeric=True), *([Column("pooling")] if several else []))
    foot = (Cell("mean ± SD" if len(nested.kept) > 1 else "test"), Cell(""), *([Cell("")] if several else []))
    return Table(
        "Layers chosen inside each fold, scored on its test data",
        (*columns, *(Column(key, "test", numeric=True) for key in keys)),
        tuple(rows),
        foot=((*foot, *(Cell(_spread(_over_folds(nested.tasks[key]))) for key in keys)),),
        notes=(
            "What the choice itself is worth: no fold's test data had a part in what was kept for it.",
            SCORED,
        ),
    )


def poolings(elimination: EliminationResult) -> Table | None:
    """One row per pooling that was crossed with the elimination; None where there was one."""
    if len(elimination.whole) < 2:
        return None
    rows = []
    for pooling, trail in elimination.whole.items():
        chosen = pooling == elimination.pooling
        tests = elimination.tests(pooling, trail.best_round) or [
            found for found in trail.test[trail.best_round - 1 : trail.best_round] if is_number(found)
        ]
        values = (
            str(trail.best_round),
            str(len(trail.valid) - trail.best_round + 1),
            number(trail.valid[trail.best_round - 1], DIGITS),
            _spread({"mean": float(np.mean(tests)), "sd": _sd(tests)} if tests else {}),
        )
        rows.append((Cell(_name(pooling), best=chosen), *(Cell(value, best=chosen) for value in values)))
    titles = (("round", ""), ("layers left", ""), ("mean", "validation"), ("mean", "test"))
    return Table(
        "Each pooling with the layers that suit it best, the one chosen in bold",
        (Column("pooling"), *(Column(title, small, numeric=True) for title, small in titles)),
        tuple(rows),
        notes=("Layers and pooling are chosen together, on validation; test is shown at the same number of layers.",),
    )


def savings(elimination: EliminationResult) -> Table | None:
    """What the upstream saves that is cut after the highest layer kept; None where `strata layers` was not run."""
    found = elimination.savings
    if not found:
        return None
    lines = (
        ("pooled values of an utterance", "pooled_bytes", size),
        ("parameters", "parameters", millions),
        ("memory for parameters", "bytes", _memory),
        ("time", "seconds", _time),
        ("operations", "operations", _operations),
    )
    rows = []
    for title, key, written in lines:
        sides = found.get(key)
        whole, cut = (sides.get(side) for side in ("whole", "cut")) if isinstance(sides, Mapping) else (None, None)
        if is_number(whole) and is_number(cut):
            saved = f"{100 * (1 - cut / whole):.1f} %" if whole else "–"
            rows.append((Cell(title), Cell(written(whole)), Cell(written(cut)), Cell(saved)))
    columns = (Column(""), *(Column(title, numeric=True) for title in ("whole", "cut", "saved")))
    highest = max(elimination.support, key=layer_height)
    caption = f"What cutting the upstream after layer {highest} saves"
    if not unneeded_layers(elimination):
        caption = f"What the layers kept save; layer {highest} is kept, so that no part of the upstream can be left out"
    about = [str(found[key]) for key in ("sample", "device") if found.get(key)]
    notes = (f"Time and operations: {', '.join(about)}.",) if about and found.get("rounds") else ()
    return Table(caption, columns, tuple(rows), notes=notes) if rows else None


def _spread(values: Mapping[str, Any]) -> str:
    mean, sd = number(values.get("mean"), DIGITS), values.get("sd")
    return f"{mean} ± {number(sd, DIGITS)}" if is_number(sd) and mean != "–" else mean


def _over_folds(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a single fold there is no SD."""
    return values if len(values.get("folds") or ()) > 1 else {"mean": values.get("mean")}


def _fold(values: Mapping[str, Any], fold: int) -> Any:
    folds = values.get("folds") or ()
    return folds[fold] if fold < len(folds) else None


def _sd(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _name(pooling: str) -> str:
    return NAMES.get(pooling, pooling)


def _time(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms" if seconds < 1 else duration(seconds)


def _memory(num_bytes: float) -> str:
    """Of large models in the binary unit too, which papers call GB as well."""
    return size(num_bytes) if num_bytes < 1e8 else f"{num_bytes / 1e9:.3f} GB ({num_bytes / 2**30:.3f} GiB)"


def _operations(count: float) -> str:
    return f"{count / 1e9:,.3g} GFLOP"
