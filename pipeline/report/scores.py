"""Scores as the papers print them: comparisons, all metrics, confusions.

The comparison has the form of TANGO's Table 6: setups and views down, tasks across, the best of each column marked, and
below the rule the score of answering without looking. Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from strata.pipeline.report import footnotes, score_cells, size_cells
from strata.pipeline.results import ranking, spreads, testsets
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.show.names import natural_order
from strata.pipeline.show.tables import Cell, Column, Table, is_number, number


def comparison(experiments: Sequence[ExperimentResult]) -> Table:
    """Every experiment with its primary score per task, above the score of answering without looking."""
    ordered = ranking.by_setup(experiments)
    criteria = ranking.criteria(ordered)
    best = {criterion: testsets.winners(ordered, criterion) for criterion in criteria}
    sizes = size_cells.sizes([[experiment] for experiment in ordered])
    rows = []
    for place, experiment in enumerate(ordered):
        heading = (Cell(experiment.setup, small=experiment.name), Cell(ranking.views(experiment)))
        cells = (score_cells.score(experiment, criterion, best[criterion][place]) for criterion in criteria)
        rows.append((*heading, Cell(ranking.encoder(experiment)), sizes[place], *cells))
    chances = (score_cells.chance(ordered, criterion) for criterion in criteria)
    return Table(
        f"Scores out of fold, {_spread(ordered)}",
        (Column("setup"), Column("views"), Column("encoder"), size_cells.COLUMN, *score_cells.headings(criteria)),
        tuple(rows),
        foot=((Cell("chance"), Cell(""), Cell(""), Cell(""), *chances),),
        notes=(*size_cells.notes(ordered), *footnotes.below(ordered, (cell for row in rows for cell in row))),
    )


def best_of_setups(experiments: Sequence[ExperimentResult]) -> Table | None:
    """The best score of each setup and the views that reached it; None where no setup has two experiments."""
    setups: dict[str, list[ExperimentResult]] = {}
    for experiment in ranking.by_setup(experiments):
        setups.setdefault(experiment.setup, []).append(experiment)
    if len(setups) == len(experiments):
        return None
    criteria = ranking.criteria(experiments)
    several = len(set(map(ranking.encoder, experiments))) > 1
    columns, found = [], {setup: [] for setup in setups}
    for criterion in criteria:
        shared = testsets.most_shared(experiments, criterion)
        best = [_best_of(members, shared, criterion) for members in setups.values()]
        won = iter(testsets.winners([winner for winner in best if winner], criterion))
        cells = []
        for setup, winner in zip(setups, best, strict=True):
            if winner is None:
                cells.append(Cell("–"))
                continue
            found[setup].append(winner)
            small = ranking.views(winner) + (f", {ranking.encoder(winner)}" if several else "")
            cells.append(score_cells.score(winner, criterion, next(won), small=small))
        columns.append(cells)
    sizes = size_cells.sizes(list(found.values()))
    heads = [Cell(setup.replace("->", "→")) for setup in setups]
    shown = [experiment for members in found.values() for experiment in members]
    return Table(
        "The best of each setup, and the views that reached it",
        (Column("setup"), size_cells.COLUMN, *score_cells.headings(criteria)),
        tuple(zip(heads, sizes, *columns, strict=True)),
        notes=(f"All with {ranking.encoders(experiments)}.",) * (not several) + tuple(size_cells.notes(shown)),
    )


def _best_of(
    members: Sequence[ExperimentResult], shared: Sequence[ExperimentResult], criterion: ranking.Criterion
) -> ExperimentResult | None:
    """The best among those that were tested on what most of a table was; where there is none, on what most of these."""
    rivals = [member for member in members if member in shared]
    return ranking.best(rivals or testsets.most_shared(members, criterion), criterion)


def _spread(experiments: Sequence[ExperimentResult]) -> str:
    """Over what the ± of a comparison is: all trainings of an experiment."""
    if all(experiment.num_folds == 1 and len(experiment.seeds) < 2 for experiment in experiments):
        return spreads.OF_ONE_FOLD
    seeds = " and seeds" if any(len(experiment.seeds) > 1 for experiment in experiments) else ""
    return f"mean ± SD over folds{seeds}"


def metrics(experiment: ExperimentResult) -> Table:
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
                    Cell(number(experiment.num_tested.get(task, experiment.num_utterances), 0)),
                    Cell(how.heading),
                    Cell(score_cells.mean_and_sd(values, how)),
                    Cell(number(chance * how.scale) if is_number(chance) else ""),
                    Cell(" · ".join(folds) or "–"),
                )
            )
    columns = (
        Column("task"), size_cells.COLUMN, Column("metric"), Column("mean ± SD", numeric=True),
        Column("chance", numeric=True), Column("each fold"),
    )  # fmt: skip
    said = footnotes.averages(name for scores in experiment.tasks.values() for name in scores)
    return Table("All metrics", columns, tuple(rows), notes=tuple(said))


def coded(predictions: pd.DataFrame, known: Iterable) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The classes of a task, and `true` and `predicted` as their numbers.

    Args:
        predictions: as `predictions` gives them.
        known: the classes in the trainers' order; others that occur follow them.
    """
    from strata.trainers.inputs.data import class_name

    codes, values = pd.factorize(pd.concat([predictions["true"], predictions["predicted"]], ignore_index=True))
    names = [class_name(value) for value in values]
    classes = list(dict.fromkeys([*map(class_name, known), *sorted(names, key=natural_order)]))
    place = {name: i for i, name in enumerate(classes)}
    numbers = np.array([place[name] for name in names], dtype=int)[codes]
    return classes, numbers[: len(predictions)], numbers[len(predictions) :]


def confusions(
    true: Sequence[str], predicted: Sequence[str], classes: Sequence[str], weights: Sequence[float] | None = None
) -> np.ndarray:
    """Utterances [true class, predicted class].

    Args:
        true: true class of each prediction.
        predicted: what it was taken for.
        classes: names of the rows and columns.
        weights: the part of an utterance that each prediction is (`predictions`); a whole one where not given.
    """
    place = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)))
    cells = ([place[name] for name in true], [place[name] for name in predicted])
    np.add.at(counts, cells, 1.0 if weights is None else np.asarray(weights, float))
    return counts.round(6)  # thirds add up to whole utterances again


def frequent_confusions(counts: np.ndarray, classes: Sequence[str], task: str, most: int = 10) -> Table:
    """The pairs of classes that are confused most often.

    Args:
        counts: utterances [true class, predicted class], as `confusions` counts them.
        classes: names of the rows and columns.
        task: whose classes they are.
        most: pairs that are shown at most.
    """
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(i), len(classes)) for i in order if wrong.flat[i] > 0]
    rows = tuple(
        (
            Cell(classes[i]),
            Cell(classes[j]),
            Cell(number(wrong[i, j], 0 if wrong[i, j] == int(wrong[i, j]) else 1), value=float(wrong[i, j])),
            Cell(number(100 * wrong[i, j] / counts[i].sum(), 1)),
        )
        for i, j in pairs
    )
    columns = (Column("true"), Column("predicted"), Column("utterances", numeric=True))
    whole = bool((counts == counts.astype(int)).all())
    return Table(
        f"{task}: the most frequent confusions",
        (*columns, Column("% of the true class", numeric=True)),
        rows,
        notes=() if whole else ("Utterances are means over the seeds.",),
    )


def predictions(experiment: ExperimentResult, task: str) -> pd.DataFrame:
    """The columns `true` and `predicted` of a task, utterances without label or prediction left out.

    An utterance has a prediction per seed: `weight` is the part of it that each of them is, so that weights add up to
    utterances.
    """
    columns, table = [f"{task}.true", f"{task}.predicted"], experiment.predictions
    if table is None or not set(columns) <= set(table.columns):
        return pd.DataFrame({"true": [], "predicted": [], "weight": []})
    table = table.dropna(subset=columns)
    found = table[columns].set_axis(["true", "predicted"], axis=1)
    if "utterance" not in table:
        return found.assign(weight=1.0 / max(1, len(experiment.seeds)))
    return found.assign(weight=1.0 / table["utterance"].map(table["utterance"].value_counts()))
