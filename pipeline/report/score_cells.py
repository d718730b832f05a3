"""Scores of experiments in a table: the heading of their column, mean ± SD over folds, what chance would score.

Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from strata.pipeline.results import ranking
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.results.ranking import Criterion, Metric
from strata.pipeline.show.tables import Cell, Column, is_number, number


def headings(criteria: Sequence[Criterion]) -> list[Column]:
    """A column per criterion."""
    return [heading(criterion, criterion[0]) for criterion in criteria]


def heading(criterion: Criterion, title: str, above: bool = False) -> Column:
    """The heading of a criterion's column; `above` where the title is a variant's and the task stands over several."""
    how = ranking.metric(criterion[1])
    task = {"above": criterion[0], "above_small": how.heading} if above else {"small": how.heading}
    return Column(title, numeric=True, lowest_first=not how.higher_is_better, **task)


def score(experiment: ExperimentResult, criterion: Criterion, best: bool, small: str = "") -> Cell:
    """The field of a table that shows an experiment's score; that of a grid's cell leads to its details."""
    (task, name), found = criterion, ranking.mean(experiment, criterion)
    if found is None:
        return Cell("–")
    how = ranking.metric(name)
    guessed = experiment.chance.get(task, {}).get(name)
    mark = "" if not is_number(guessed) or how.beats(found, guessed) else "°"
    link = experiment.name if experiment.is_cell else ""
    return Cell(mean_and_sd(experiment.tasks[task][name], how), best, mark, small, found, link)


def mean_and_sd(values: Mapping, how: Metric) -> str:
    """A score as the papers write it; without an SD where it is known to be of one value, whatever the file says."""
    mean, sd, folds = values.get("mean"), values.get("sd"), values.get("folds")
    if not is_number(mean):
        return "–"
    text = number(mean * how.scale)
    of_one = isinstance(folds, list) and sum(map(is_number, folds)) < 2
    return f"{text} ± {number(sd * how.scale)}" if is_number(sd) and not of_one else text


def chance(experiments: Sequence[ExperimentResult], criterion: Criterion) -> Cell:
    """The chance score; a range where the experiments were not evaluated on the same utterances."""
    task, name = criterion
    found = [experiment.chance.get(task, {}).get(name) for experiment in experiments]
    written = sorted({round(chance * ranking.metric(name).scale, 2) for chance in found if is_number(chance)})
    return Cell("–".join(number(chance) for chance in (written[0], written[-1])[: len(written)]) if written else "–")
