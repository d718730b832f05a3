"""On what experiments were tested: which scores may be held against each other, and how much stands behind a row.

Scores compete where they were taken on the same folds of the same utterances, by the same labels: on another test set
the same model has another score. Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from strata.pipeline.results import ranking
from strata.pipeline.results.experiments import Experiment
from strata.pipeline.results.ranking import Target
from strata.pipeline.show.tables import Cell, Column, counted, is_number, number

COLUMN = Column("utterances", numeric=True)
"""Of a table that tells on how many utterances each row was tested."""
APART = "Rows of one letter were tested on the same folds of the same utterances; only among these is one the best."


def folds_of(experiment: Experiment) -> Hashable:
    """What experiments share that were tested on the same folds of the same utterances.

    Results of an earlier version do not tell their folds; those are the same where the sections, the corpora and the
    number of utterances are.
    """
    if found := experiment.folds.get("hash"):
        return str(found), experiment.num_utterances
    return str(experiment.config.get("folds")), experiment.corpora, experiment.num_utterances


def tested_on(experiment: Experiment, target: Target) -> Hashable:
    """What two scores by one measure must share to be compared: folds, and the task's labels."""
    task, _ = target
    labels = experiment.truth.get(task) or tuple(map(str, experiment.classes.get(task, ())))
    return folds_of(experiment), labels


def alike(experiments: Sequence[Experiment], target: Target) -> list[list[Experiment]]:
    """Those that have a score, by what they were tested on: the largest group first, of equal ones that of the most
    utterances, then the first."""
    groups: dict[Hashable, list[Experiment]] = {}
    for experiment in experiments:
        if ranking.mean(experiment, target) is not None:
            groups.setdefault(tested_on(experiment, target), []).append(experiment)
    return sorted(groups.values(), key=lambda members: (-len(members), -max(_counts(members[0], None), default=0)))


def most_shared(experiments: Sequence[Experiment], target: Target) -> list[Experiment]:
    """Those of the test set that most of them share; none where none has a score."""
    return next(iter(alike(experiments, target)), [])


def winners(experiments: Sequence[Experiment], target: Target) -> list[bool]:
    """For each whether its score is the best, as far as a table shows it, among those tested on the same.

    Nobody wins without a rival.
    """
    best = {}
    for members in alike(experiments, target):
        if len(members) > 1:
            best[tested_on(members[0], target)] = ranking.best(members, target)
    rivals = [best.get(tested_on(experiment, target)) for experiment in experiments]
    pairs = zip(experiments, rivals, strict=True)
    return [rival is not None and ranking.equals(experiment, rival, target) for experiment, rival in pairs]


def sizes(rows: Sequence[Sequence[Experiment]], task: str | None = None) -> list[Cell]:
    """For each row of a table on how many utterances its scores were taken.

    A range where tasks label, or a row's experiments tested, different numbers. Where the table has several test sets,
    a letter tells them apart.

    Args:
        rows: the experiments of each.
        task: that alone; all of an experiment where not given.
    """
    letters = _letters([experiment for row in rows for experiment in row])
    cells = []
    for row in rows:
        counts = sorted({count for experiment in row for count in _counts(experiment, task)})
        text = "–".join(number(count, 0) for count in dict.fromkeys((*counts[:1], *counts[-1:]))) or "–"
        marks = sorted({letters[folds_of(experiment)] for experiment in row}) if len(letters) > 1 else []
        cells.append(Cell(" ".join([text, *marks]), value=counts[-1] if counts else None))
    return cells


def told(rows: Sequence[Sequence[Experiment]]) -> list[str]:
    """As `sizes`, in words, for the second line of a row's heading."""
    return [
        counted(cell.value, "utterance") if cell.text == number(cell.value, 0) else f"{cell.text} utterances"
        for cell in sizes(rows)
    ]


def notes(experiments: Sequence[Experiment]) -> list[str]:
    """What must be said of test sets below a table of these experiments."""
    return [APART] if len({folds_of(experiment) for experiment in experiments}) > 1 else []


def _counts(experiment: Experiment, task: str | None) -> list[int]:
    tasks = [task] if task else experiment.tasks
    counts = [experiment.num_tested.get(each, experiment.num_utterances) for each in tasks]
    return [count for count in counts or [experiment.num_utterances] if is_number(count)]


def _letters(experiments: Sequence[Experiment]) -> dict[Hashable, str]:
    """A letter for each test set, in the order of the table."""
    return {folds: _letter(place) for place, folds in enumerate(dict.fromkeys(map(folds_of, experiments)))}


def _letter(place: int) -> str:
    """A to Z, then AA, as spreadsheets count."""
    return (_letter(place // 26 - 1) if place >= 26 else "") + chr(ord("A") + place % 26)
