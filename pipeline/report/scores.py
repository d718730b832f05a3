"""Scores as the papers print them: comparisons, all metrics, confusions.

The comparison has the form of TANGO's Table 6: setups and views down, tasks across, the best of each column marked, and
below the rule the score of answering without looking. Knows no files and no HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from pipeline.report import ranking
from pipeline.report.eliminations import layer_height
from pipeline.report.experiments import Experiment
from pipeline.report.tables import Cell, Column, Table, is_number, number


def comparison(experiments: Sequence[Experiment]) -> Table:
    """Every experiment with its primary score per task, above the score of answering without looking."""
    ordered = ranking.by_setup(experiments)
    targets = ranking.targets(ordered)
    best = {target: ranking.best(ordered, target) for target in targets}
    rows = []
    for experiment in ordered:
        cells = []
        for target in targets:
            marked = len(ordered) > 1 and ranking.equals(experiment, best[target], target)
            cells.append(ranking.score(experiment, target, marked))
        rows.append((Cell(experiment.setup, small=experiment.name), Cell(ranking.views(experiment)), *cells))
    seeds = " and seeds" if any(len(experiment.seeds) > 1 for experiment in ordered) else ""
    return Table(
        f"Scores out of fold, mean ± SD over folds{seeds}",
        (Column("setup"), Column("views"), *ranking.headings(targets)),
        tuple(rows),
        foot=((Cell("chance"), Cell(""), *(ranking.chance(ordered, target) for target in targets)),),
        notes=ranking.notes(ordered, (cell for row in rows for cell in row)),
    )


def best_of_setups(experiments: Sequence[Experiment]) -> Table | None:
    """The best score of each setup and the views that reached it; None where no setup has two experiments."""
    setups: dict[str, list[Experiment]] = {}
    for experiment in ranking.by_setup(experiments):
        setups.setdefault(experiment.setup, []).append(experiment)
    if len(setups) == len(experiments):
        return None
    targets = ranking.targets(experiments)
    overall = {target: ranking.best(experiments, target) for target in targets}
    rows = []
    for setup, members in setups.items():
        cells = []
        for target in targets:
            winner = ranking.best(members, target)
            if winner is None:
                cells.append(Cell("–"))
                continue
            marked = len(setups) > 1 and ranking.equals(winner, overall[target], target)
            cells.append(ranking.score(winner, target, marked, small=ranking.views(winner)))
        rows.append((Cell(setup.replace("->", "→")), *cells))
    return Table(
        "The best of each setup, and the views that reached it", (Column("setup"), *ranking.headings(targets)), (*rows,)
    )


def metrics(experiment: Experiment) -> Table:
    """All metrics of one experiment."""
    rows = []
    for task, scores in experiment.tasks.items():
        for name, values in scores.items():
            how = ranking.metric(name)
            chance = experiment.chance.get(task, {}).get(name)
            folds = [number(fold * how.scale) if is_number(fold) else "–" for fold in values.get("folds") or ()]
            rows.append(
                (
                    Cell(task),
                    Cell(how.heading),
                    Cell(ranking.mean_and_sd(values, how)),
                    Cell(number(chance * how.scale) if is_number(chance) else ""),
                    Cell(" · ".join(folds) or "–"),
                )
            )
    columns = (Column("task"), Column("metric"), Column("mean ± SD", numeric=True), Column("chance", numeric=True))
    return Table("All metrics", (*columns, Column("each fold")), tuple(rows))


def coded(answers: pd.DataFrame, known: Iterable) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The classes of a task, and the answers `true` and `predicted` as their numbers.

    Args:
        answers: as `answers` gives them.
        known: the classes in the trainers' order; others that occur follow them.
    """
    from trainers.data import class_name

    codes, values = pd.factorize(pd.concat([answers["true"], answers["predicted"]], ignore_index=True))
    names = [class_name(value) for value in values]
    classes = list(dict.fromkeys([*map(class_name, known), *sorted(names, key=natural_order)]))
    place = {name: i for i, name in enumerate(classes)}
    numbers = np.array([place[name] for name in names], dtype=int)[codes]
    return classes, numbers[: len(answers)], numbers[len(answers) :]


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


def layer_ranges(kept: Iterable[str]) -> str:
    """Layers in the model's order, three and more that follow each other in the model drawn together: `0–14, 17`."""
    runs: list[list[str]] = []
    for layer in sorted(kept, key=layer_height):
        if runs and layer_height(layer) == layer_height(runs[-1][-1]) + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)
