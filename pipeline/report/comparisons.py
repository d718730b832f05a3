"""TANGO against concatenation, pair by pair of views: differences fold by fold, their size, and what chance would do.

The statistics are `trainers.evaluation.comparison`'s. Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from strata.pipeline.progress import counted, noun
from strata.pipeline.report import score_cells, size_cells
from strata.pipeline.results import ranking
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.show.tables import Cell, Column, Table, number
from strata.trainers import setups

LEVEL = 0.05
"""Corrected p values below it are bold."""


def against_concat(cells: Sequence[ExperimentResult], corpora: str) -> Table | None:
    """The table; None where no pair of views was fused in both ways on the same folds.

    Args:
        cells: of one corpus, tested in the same way.
        corpora: its name.
    """
    from strata.trainers.evaluation import comparison

    partners = {_apart_from_fusion(cell): cell for cell in cells if cell.setup == setups.CONCAT}
    transported = [cell for cell in cells if cell.setup == setups.TANGO]
    found, left_out = {}, 0
    for cell in transported:
        partner = partners.get(_apart_from_fusion(cell))
        try:
            found[cell.name] = comparison.compare(partner.compared, cell.compared) if partner else {}
        except (ValueError, KeyError, TypeError, ZeroDivisionError):  # other folds, or results that do not tell theirs
            left_out += 1
    rows = [cell for cell in transported if found.get(cell.name)]
    if not rows:
        return None
    criteria = list(dict.fromkeys((task, metric) for row in rows for task, (metric, _) in found[row.name].items()))
    tested = [(row.name, task) for row in rows for task in found[row.name]]
    corrected = comparison.holm([found[name][task][1].p_value for name, task in tested])
    chances = dict(zip(tested, corrected, strict=True))
    folds = sorted({paired.num_folds for name, task in tested for _, paired in [found[name][task]]})
    notes = [
        f"TANGO − concatenation, over {'–'.join(str(count) for count in dict.fromkeys((folds[0], folds[-1])))} "
        f"{noun(folds[-1], 'fold')}, "
        "seeds averaged; d is the mean difference in units of its SD over folds.",
        "p: two-sided, by the t-test corrected for folds that share training data (Nadeau and Bengio), and by Holm "
        f"for the {counted(len(tested), 'comparison')} of this table; bold below {LEVEL}.",
    ]
    if left_out:
        notes.append(
            f"Left out: {counted(left_out, 'pair')} whose two models were not tested on the same folds and labels."
        )
    ways = ranking.variants(rows)
    several = len(set(ways.values())) > 1
    tested = dict(zip((row.name for row in rows), size_cells.told([[row] for row in rows]), strict=True))
    return Table(
        f"{corpora}, TANGO against concatenation",
        (Column("views"), *(column for criterion in criteria for column in _columns(criterion))),
        tuple(
            (
                Cell(ranking.views(row) + (f" ({ways[row.name]})" if several else ""), small=tested[row.name]),
                *(field for criterion in criteria for field in _fields(row, criterion, found[row.name], chances)),
            )
            for row in rows
        ),
        notes=tuple(notes),
    )


def _columns(criterion: ranking.Criterion) -> list[Column]:
    difference, effect, p = (score_cells.heading(criterion, title, above=True) for title in ("difference", "d", "p"))
    return [difference, effect, replace(p, lowest_first=True)]


def _fields(cell: ExperimentResult, criterion: ranking.Criterion, found: Mapping, chances: Mapping) -> list[Cell]:
    task, metric = criterion
    if task not in found or found[task][0] != metric:
        return [Cell("–")] * 3
    paired, p = found[task][1], chances[cell.name, task]
    scaled = paired.difference * ranking.metric(metric).scale
    written = "< 0.001" if p < 0.001 else number(p, 3)
    return [
        Cell(("+" if scaled > 0 else "") + number(scaled), value=paired.difference, link=cell.name),
        Cell(number(paired.effect), value=paired.effect),
        Cell(written, best=p < LEVEL, value=p),
    ]


def _apart_from_fusion(cell: ExperimentResult) -> str:
    return str(sorted((field, str(value)) for field, value in cell.config.items() if field != "fusion"))
