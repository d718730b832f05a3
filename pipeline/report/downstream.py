"""What frozen embeddings are good for: the downstream tasks of wavCSE (Table 4), one row each.

Reads what `strata downstream` leaves below results/downstream: for each section of params.yaml results in the form of
an experiment's, or a line on why it was skipped. Knows no HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

from strata.pipeline.report import footnotes, spreads, testsets
from strata.pipeline.results import ranking
from strata.pipeline.results.experiments import Experiment, read_alone
from strata.pipeline.results.reading import Gap, json_object, mapping, read
from strata.pipeline.show.tables import Cell, Column, Table, counted, is_number


def collect(folder: Path, sections: Mapping, gaps: list[Gap]) -> tuple[list[Experiment], dict[str, str]]:
    """The results, in the order of `params.yaml`, and section → why it was skipped; adds a gap for what is missing."""
    found, skipped = [], {}
    for name in sections:
        where = folder / "results" / "downstream" / name
        gap = Gap(f"downstream task {name}", f"strata downstream {quote(name)}")
        if (where / "skipped.json").exists() and not (where / "metrics.json").exists():
            told = read(json_object, where / "skipped.json", folder, gaps, gap)
            if told is not None:
                skipped[name] = str(told.get("reason") or "no reason was told")
            continue
        found.append(read(lambda path, name=name: read_alone(path, name), where / "metrics.json", folder, gaps, gap))
    return [result for result in found if result is not None], skipped


def table(results: Sequence[Experiment], skipped: Mapping[str, str], sections: Mapping) -> Table | None:
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
    apart = [testsets.APART] if any(" " in row[-2].text for row in rows) else []
    return Table(
        "Downstream tasks on the frozen embedding",
        columns,
        tuple(rows),
        notes=(*notes, *apart, *footnotes.below(results, marked)) if results else (),
    )


def reasons(skipped: Mapping[str, str]) -> tuple[str, ...]:
    """Why sections were skipped, for a terminal, whose tables have no second lines."""
    return tuple(f"{name}: skipped, {reason}" for name, reason in skipped.items())


def _row(result: Experiment, task: str, results: Sequence[Experiment]) -> tuple[Cell, ...]:
    target = (task, result.primary[task])
    rivals = [other for other in results if other.primary.get(task) == target[1] and other.corpora == result.corpora]
    place = [rival.name for rival in rivals].index(result.name)
    tested = testsets.sizes([[rival] for rival in rivals], task)[place]
    best = testsets.winners(rivals, target)[place]
    score = ranking.score(spreads.over_seeds(result), target, best)
    return (
        Cell(result.name),
        Cell(task),
        Cell(ranking.views(result)),
        Cell(ranking.encoder(result)),
        Cell(ranking.metric(target[1]).heading),
        score,
        ranking.chance([result], target),
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
