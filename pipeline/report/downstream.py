"""What frozen embeddings are good for: the downstream tasks of wavCSE (Table 4), one row each.

For each section of params.yaml its results, or a line on why it was skipped. Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from strata.pipeline.progress import counted
from strata.pipeline.report import footnotes, score_cells, size_cells
from strata.pipeline.results import ranking, spreads, testsets
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.results.reading import mapping
from strata.pipeline.show.tables import Cell, Column, Table, is_number


def table(results: Sequence[ExperimentResult], skipped: Mapping[str, str], sections: Mapping) -> Table | None:
    """All downstream tasks; None where none was run or skipped.

    Args:
        results: what was run.
        skipped: section → why it could not be.
        sections: `downstream` of params.yaml, whose order the rows have.
    """
    if not results and not skipped:
        return None
    by_name = {result.name: result for result in results}
    rows: list[tuple[Cell, ...]] = []
    for name in sections:
        if name in by_name:
            rows += [_row(by_name[name], task, results) for task in by_name[name].tasks]
        elif name in skipped:
            rows.append(_skipped(name, mapping(sections[name]), skipped[name]))
    notes = [f"Scores: {spreads.over(results)}."] if results else []
    columns = (
        *(Column(title) for title in ("section", "task", "embedding", "encoder", "metric")),
        *(Column(title, numeric=True) for title in ("score", "chance", "utterances")),
        Column("corpora"),
    )
    marked = [cell for row in rows for cell in row]
    apart = [size_cells.APART] if any(" " in row[-2].text for row in rows) else []
    return Table(
        "Downstream tasks on the frozen embedding",
        columns,
        tuple(rows),
        notes=(*notes, *apart, *footnotes.below(results, marked)) if results else (),
    )


def reasons(skipped: Mapping[str, str]) -> tuple[str, ...]:
    """Why sections were skipped, for a terminal, whose tables have no second lines."""
    return tuple(f"{name}: skipped, {reason}" for name, reason in skipped.items())


def _row(result: ExperimentResult, task: str, results: Sequence[ExperimentResult]) -> tuple[Cell, ...]:
    criterion = (task, result.primary[task])
    rivals = [other for other in results if other.primary.get(task) == criterion[1] and other.corpora == result.corpora]
    place = [rival.name for rival in rivals].index(result.name)
    tested = size_cells.sizes([[rival] for rival in rivals], task)[place]
    best = testsets.winners(rivals, criterion)[place]
    score = score_cells.score(spreads.over_seeds(result), criterion, best)
    return (
        Cell(result.name),
        Cell(task),
        Cell(ranking.views(result)),
        Cell(ranking.encoder(result)),
        Cell(ranking.metric(criterion[1]).heading),
        score,
        score_cells.chance([result], criterion),
        replace(tested, small=_trials(result.num_trials)),
        Cell(" + ".join(result.corpora) or "all"),
    )


def _trials(count: Any) -> str:
    return counted(count, "pair") if is_number(count) else ""


def _skipped(name: str, section: Mapping, reason: str) -> tuple[Cell, ...]:
    tasks, views, corpora = (section.get(key) or [] for key in ("tasks", "views", "corpora"))
    return (
        Cell(name),
        Cell(", ".join(map(str, tasks)) or str(section.get("verify") or "–")),
        Cell(" + ".join(map(str, views)) or "–"),
        Cell("–"),
        Cell("–"),
        Cell("skipped", small=reason),
        Cell("–"),
        Cell("–"),
        Cell(" + ".join(map(str, corpora)) or "all"),
    )
