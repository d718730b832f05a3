"""Scores as the papers print them: comparisons, all metrics, confusions, elimination rounds.

The comparison has the form of TANGO's Table 6: setups and views down, tasks across, the best of each column marked, and
below the rule the score of answering without looking. Knows no files and no HTML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.report.collect import Elimination, Experiment, layer_height
from pipeline.report.tables import Cell, Column, Table, is_number, number

SETUPS = ("SVST", "SVMT", "MVMT-concat", "TANGO")
"""The setups of the TANGO paper in its order; any other follows in the order of `params.yaml`."""


@dataclass(frozen=True)
class Metric:
    """How a score is written."""

    title: str
    higher_is_better: bool = True
    scale: int = 1
    """100 where the papers print percent."""

    @property
    def heading(self) -> str:
        """Name, unit, and the direction in which scores get better."""
        return f"{self.title}{' (%)' if self.scale == 100 else ''} {'↑' if self.higher_is_better else '↓'}"

    def beats(self, score: float, other: float) -> bool:
        """Whether the one score is better than the other."""
        return score > other if self.higher_is_better else score < other


METRICS = {
    "accuracy": Metric("accuracy", scale=100),
    "uar": Metric("UAR", scale=100),
    "f1": Metric("F1", scale=100),
    "rmse": Metric("RMSE", higher_is_better=False),
    "mae": Metric("MAE", higher_is_better=False),
    "r2": Metric("R²"),
    "ccc": Metric("CCC"),
    "wer": Metric("WER", higher_is_better=False, scale=100),
    "eer": Metric("EER", higher_is_better=False, scale=100),
}


def metric(name: str) -> Metric:
    """How the metric of that name is written; an unknown one is taken for a number of which more is better."""
    return METRICS.get(name, Metric(name))


def views(experiment: Experiment) -> str:
    """The experiment's views in one phrase."""
    return " + ".join(experiment.views) or "–"


def comparison(experiments: Sequence[Experiment]) -> Table:
    """Every experiment with its primary score per task, above the score of answering without looking."""
    ordered = _by_setup(experiments)
    targets = _targets(ordered)
    best = {target: _best(ordered, target) for target in targets}
    rows = []
    for experiment in ordered:
        cells = []
        for target in targets:
            marked = len(ordered) > 1 and _equal(experiment, best[target], target)
            cells.append(_cell(experiment, target, marked))
        rows.append((Cell(experiment.setup, small=experiment.name), Cell(views(experiment)), *cells))
    notes = []
    if any(cell.mark for row in rows for cell in row):
        notes.append("° no better than chance: always the most frequent class, or the mean of the training labels.")
    if len({str(experiment.provenance.get("manifest")) for experiment in ordered}) > 1:
        notes.append("Not all experiments were trained on the same state of the manifest (see Provenance).")
    return Table(
        "Scores out of fold, mean ± SD over folds",
        (Column("setup"), Column("views"), *_headings(targets)),
        tuple(rows),
        foot=((Cell("chance"), Cell(""), *(_chance(ordered, target) for target in targets)),),
        notes=tuple(notes),
    )


def best_of_setups(experiments: Sequence[Experiment]) -> Table | None:
    """The best score of each setup and the views that reached it; None where no setup has two experiments."""
    setups: dict[str, list[Experiment]] = {}
    for experiment in _by_setup(experiments):
        setups.setdefault(experiment.setup, []).append(experiment)
    if len(setups) == len(experiments):
        return None
    targets = _targets(experiments)
    overall = {target: _best(experiments, target) for target in targets}
    rows = []
    for setup, members in setups.items():
        cells = []
        for target in targets:
            winner = _best(members, target)
            if winner is None:
                cells.append(Cell("–"))
                continue
            marked = len(setups) > 1 and _equal(winner, overall[target], target)
            cells.append(_cell(winner, target, marked, small=views(winner)))
        rows.append((Cell(setup), *cells))
    return Table(
        "The best of each setup, and the views that reached it", (Column("setup"), *_headings(targets)), (*rows,)
    )


def metrics(experiment: Experiment) -> Table:
    """All metrics of one experiment."""
    rows = []
    for task, scores in experiment.tasks.items():
        for name, values in scores.items():
            how = metric(name)
            chance = experiment.chance.get(task, {}).get(name)
            folds = [number(fold * how.scale) if is_number(fold) else "–" for fold in values.get("folds") or ()]
            rows.append(
                (
                    Cell(task),
                    Cell(how.heading),
                    Cell(_mean_and_sd(values, how)),
                    Cell(number(chance * how.scale) if is_number(chance) else ""),
                    Cell(" · ".join(folds) or "–"),
                )
            )
    columns = (Column("task"), Column("metric"), Column("mean ± SD", numeric=True), Column("chance", numeric=True))
    return Table("All metrics", (*columns, Column("each fold")), tuple(rows))


def confusions(true: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Counts [true class, predicted class]."""
    place = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, ([place[name] for name in true], [place[name] for name in predicted]), 1)
    return counts


def frequent_confusions(counts: np.ndarray, classes: Sequence[str], task: str, most: int = 10) -> Table:
    """The pairs of classes that are confused most often."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(i), len(classes)) for i in order if wrong.flat[i] > 0]
    rows = tuple(
        (
            Cell(classes[i]),
            Cell(classes[j]),
            Cell(str(wrong[i, j])),
            Cell(number(100 * wrong[i, j] / counts[i].sum(), 1)),
        )
        for i, j in pairs
    )
    columns = (Column("true"), Column("predicted"), Column("utterances", numeric=True))
    return Table(f"{task}: the most frequent confusions", (*columns, Column("% of the true class", numeric=True)), rows)


def answers(experiment: Experiment, task: str) -> pd.DataFrame:
    """The columns `true` and `predicted` of a task, utterances without label or prediction left out."""
    columns = [f"{task}.true", f"{task}.predicted"]
    if experiment.predictions is None or not set(columns) <= set(experiment.predictions.columns):
        return pd.DataFrame({"true": [], "predicted": []})
    return experiment.predictions[columns].set_axis(["true", "predicted"], axis=1).dropna()


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sorting key that puts `speaker 9` before `speaker 10`."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)]


def elimination_rounds(elimination: Elimination) -> Table:
    """Scores of every round, the chosen one marked."""
    keys = ["mean", *(key for key in elimination.rounds[0].valid if key != "mean")]
    rows = []
    for r in elimination.rounds:
        chosen = r.number == elimination.best_round
        scores = [Cell(number(split.get(key), 4), best=chosen) for split in (r.valid, r.test) for key in keys]
        rows.append((Cell(str(len(r.layers)), best=chosen), *scores, Cell(r.dropped or "–")))
    scored = [Column(key, split, numeric=True) for split in ("validation", "test") for key in keys]
    return Table(
        "Scores of every round, the chosen one in bold",
        (Column("layers left"), *scored, Column("dropped next")),
        tuple(rows),
        notes=("Accuracy as a fraction; R² for regression. The choice is made on validation, never on test.",),
    )


def kept_layers(elimination: Elimination) -> str:
    """The outcome of an elimination in one line."""
    valid, test = (number(split.get("mean"), 4) for split in (elimination.best.valid, elimination.best.test))
    return (
        f"{layer_ranges(elimination.support)} "
        f"({len(elimination.support)} of {len(elimination.layer_names)}; validation {valid}, test {test})"
    )


def unneeded_layers(elimination: Elimination) -> int:
    """The layers that the upstream need not compute: those above the highest one kept, up to the view's highest.

    Both are layer numbers, since a view may keep only some layers of the upstream. `last_hidden_state` lies above all
    of them: where it is kept, nothing is saved.
    """
    kept = max(map(layer_height, elimination.support))
    heights = [height for height in map(layer_height, elimination.layer_names) if math.isfinite(height)]
    return int(max(heights) - kept) if math.isfinite(kept) else 0


def layer_ranges(kept: Iterable[str]) -> str:
    """Layers in the model's order, three and more that follow each other in the model drawn together: `0–14, 17`."""
    runs: list[list[str]] = []
    for layer in sorted(kept, key=layer_height):
        if runs and layer_height(layer) == layer_height(runs[-1][-1]) + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)


Target = tuple[str, str]
"""A task, and the metric that it is compared by: a column of the comparison."""


def _by_setup(experiments: Sequence[Experiment]) -> list[Experiment]:
    """In the papers' order of setups; experiments of one setup stay in the order of `params.yaml`, side by side."""
    setups = list(dict.fromkeys((*SETUPS, *(experiment.setup for experiment in experiments))))
    return sorted(experiments, key=lambda experiment: setups.index(experiment.setup))


def _targets(experiments: Sequence[Experiment]) -> list[Target]:
    return list(dict.fromkeys((task, e.primary[task]) for e in experiments for task in e.tasks))


def _headings(targets: Sequence[Target]) -> list[Column]:
    return [Column(task, metric(name).heading, numeric=True) for task, name in targets]


def _mean(experiment: Experiment, target: Target) -> float | None:
    task, name = target
    mean = experiment.tasks.get(task, {}).get(name, {}).get("mean")
    return mean if experiment.primary.get(task) == name and is_number(mean) else None


def _best(experiments: Sequence[Experiment], target: Target) -> Experiment | None:
    scored = [experiment for experiment in experiments if _mean(experiment, target) is not None]
    pick = max if metric(target[1]).higher_is_better else min
    return pick(scored, key=lambda experiment: _mean(experiment, target), default=None)


def _equal(experiment: Experiment, best: Experiment | None, target: Target) -> bool:
    """Whether the experiment's score is the best one as far as the table shows."""
    means = [_mean(e, target) for e in (experiment, best) if e is not None]
    scale = metric(target[1]).scale
    return None not in means and len({number(mean * scale) for mean in means}) == 1


def _cell(experiment: Experiment, target: Target, best: bool, small: str = "") -> Cell:
    (task, name), mean = target, _mean(experiment, target)
    if mean is None:
        return Cell("–")
    how = metric(name)
    chance = experiment.chance.get(task, {}).get(name)
    mark = "" if not is_number(chance) or how.beats(mean, chance) else "°"
    return Cell(_mean_and_sd(experiment.tasks[task][name], how), best, mark, small)


def _mean_and_sd(values: Mapping, how: Metric) -> str:
    mean, sd = values.get("mean"), values.get("sd")
    if not is_number(mean):
        return "–"
    text = number(mean * how.scale)
    return f"{text} ± {number(sd * how.scale)}" if is_number(sd) else text


def _chance(experiments: Sequence[Experiment], target: Target) -> Cell:
    """The chance score; a range where the experiments were not evaluated on the same utterances."""
    task, name = target
    found = [experiment.chance.get(task, {}).get(name) for experiment in experiments]
    written = sorted({round(chance * metric(name).scale, 2) for chance in found if is_number(chance)})
    return Cell("–".join(number(chance) for chance in (written[0], written[-1])[: len(written)]) if written else "–")
