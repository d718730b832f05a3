"""Scores as the papers print them: comparisons, and all metrics of one experiment.

The comparison has the form of TANGO's Table 6: setups and views down, tasks across, the best of each column marked, and
below the rule the score of answering without looking. Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Sequence

from strata.pipeline.report import footnotes, score_cells, size_cells
from strata.pipeline.results import ranking, spreads, testsets
from strata.pipeline.results.experiments import ExperimentResult
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
