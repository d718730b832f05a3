"""How much stands behind the rows of a table: on how many utterances each was tested, and which share a test set.

Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from strata.pipeline.progress import counted
from strata.pipeline.results import testsets
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.show.tables import Cell, Column, number

COLUMN = Column("utterances", numeric=True)
"""Of a table that tells on how many utterances each row was tested."""
APART = "Rows of one letter were tested on the same folds of the same utterances; only among these is one the best."


def sizes(rows: Sequence[Sequence[ExperimentResult]], task: str | None = None) -> list[Cell]:
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
        counts = sorted({count for experiment in row for count in testsets.counts(experiment, task)})
        text = "–".join(number(count, 0) for count in dict.fromkeys((*counts[:1], *counts[-1:]))) or "–"
        marks = sorted({letters[testsets.folds_of(experiment)] for experiment in row}) if len(letters) > 1 else []
        cells.append(Cell(" ".join([text, *marks]), value=counts[-1] if counts else None))
    return cells


def told(rows: Sequence[Sequence[ExperimentResult]]) -> list[str]:
    """As `sizes`, in words, for the second line of a row's heading."""
    return [
        counted(cell.value, "utterance") if cell.text == number(cell.value, 0) else f"{cell.text} utterances"
        for cell in sizes(rows)
    ]


def notes(experiments: Sequence[ExperimentResult]) -> list[str]:
    """What must be said of test sets below a table of these experiments."""
    return [APART] if len({testsets.folds_of(experiment) for experiment in experiments}) > 1 else []


def _letters(experiments: Sequence[ExperimentResult]) -> dict[Hashable, str]:
    """A letter for each test set, in the order of the table."""
    return {folds: _letter(place) for place, folds in enumerate(dict.fromkeys(map(testsets.folds_of, experiments)))}


def _letter(place: int) -> str:
    """A to Z, then AA, as spreadsheets count."""
    return (_letter(place // 26 - 1) if place >= 26 else "") + chr(ord("A") + place % 26)
