"""The tables of TANGO, from the cells of grids: per corpus, views or pairs of views down, tasks and fusions across.

One view alone (Tables 1 and 2), two views by concatenation and by transport (Tables 3 to 5), transport in one direction
(Tables 7 to 9), the best of each setup (Table 6), TANGO against concatenation, and the pairs as a heat map. Cells stand
in one table where they come from one grid and its corpus. Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from strata.pipeline.progress import counted
from strata.pipeline.report import comparisons, footnotes, heatmaps, poolings, score_cells, scores, size_cells
from strata.pipeline.report.collect import Findings
from strata.pipeline.results import ranking, spreads, testsets
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.show.tables import Cell, Column, Table
from strata.trainers import setups

FAMILIES = {
    setups.SVST: (setups.SVST,),
    setups.SVMT: (setups.SVMT,),
    "MVMT": (setups.CONCAT, setups.TANGO),
    "TANGO in one direction": (setups.FORTH, setups.BACK),
}
"""Setups that share a table, the papers' four; any other has a table of its own."""
ABOUT = {
    setups.SVST: "each view alone, a model per task",
    setups.SVMT: "each view alone, one model for all tasks",
    "MVMT": "two views, one model for all tasks",
    "TANGO in one direction": "transport from one view to the other only",
}


@dataclass(frozen=True)
class Sheet:
    """What grids found out about one corpus, or about several of which each cell saw all."""

    corpora: str
    best: tuple[Table, ...]
    """Of the cells that were tested in the same way, such as on speakers that training had not heard."""
    tables: tuple[Table, ...]
    heatmaps: tuple[heatmaps.HeatMap, ...]
    about: tuple[str, ...]
    """The notices that its numbers need: see `pipeline.show.notices`."""


def sheets(study: Findings) -> list[Sheet]:
    """One sheet for each corpus of the grids, in the order of `params.yaml`."""
    return [_sheet(study, corpora, cells) for corpora, cells in _by_corpora(study).items()]


def bests(study: Findings) -> list[Table]:
    """The best of each setup, for a terminal that has no room for more."""
    found = []
    for corpora, cells in _by_corpora(study).items():
        protocols = _protocols(cells)
        for members, way in zip(protocols, _ways_of_testing(protocols), strict=True):
            title = _name(corpora) + way
            # Where no setup has two cells there is no best of them: the cells themselves are few.
            found.append(
                _best(members, title) or replace(scores.comparison(members), caption=f"{title}: cells of grids")
            )
    return found


def _by_corpora(study: Findings) -> dict[tuple[str, ...], list[ExperimentResult]]:
    """The cells, apart from those that the tables of poolings show."""
    shown = poolings.shown(study.experiments)
    found: dict[tuple[str, ...], list[ExperimentResult]] = {}
    for cell in study.cells:
        if cell.name not in shown:
            found.setdefault(cell.corpora, []).append(cell)
    return found


def _protocols(cells: Sequence[ExperimentResult]) -> list[list[ExperimentResult]]:
    """The cells that were tested in the same way, side by side."""
    found: dict[str, list[ExperimentResult]] = {}
    for cell in cells:
        found.setdefault(str(cell.config.get("folds")), []).append(cell)
    return list(found.values())


def _ways_of_testing(protocols: Sequence[Sequence[ExperimentResult]]) -> list[str]:
    """What tells the protocols apart, to stand behind the corpus in a caption; nothing where there is only one."""
    folds = [dict(members[0].config.get("folds") or {}) for members in protocols]
    fields = list(dict.fromkeys(field for about in folds for field in about))
    varied = [field for field in fields if len({str(about.get(field)) for about in folds}) > 1]
    return ["".join(f", {field} {about[field]}" for field in varied if about.get(field)) for about in folds]


def _name(corpora: Sequence[str]) -> str:
    return " + ".join(corpora) or "all corpora"


def _sheet(study: Findings, corpora: tuple[str, ...], cells: Sequence[ExperimentResult]) -> Sheet:
    name, protocols = _name(corpora), _protocols(cells)
    named = [(members, name + way) for members, way in zip(protocols, _ways_of_testing(protocols), strict=True)]
    tables = [
        _table(family, members, name)
        for section in dict.fromkeys(cell.section for cell in cells)
        for family, members in _families([cell for cell in cells if cell.section == section]).items()
    ]
    tables += [comparisons.against_concat(members, title) for members, title in named]
    synthetic = set(corpora or study.params["corpora"]) & set(study.synthetic_corpora)
    random = {view for cell in cells for view in cell.views} & set(study.miniature_views)
    return Sheet(
        corpora=name,
        best=_some([_best(members, title) for members, title in named]),
        tables=_some(tables),
        heatmaps=tuple(found for members, title in named for found in heatmaps.heatmaps(members, title)),
        about=tuple(word for word, applies in (("speech", synthetic), ("weights", random)) if applies),
    )


def _some(tables: Sequence[Table | None]) -> tuple[Table, ...]:
    return tuple(table for table in tables if table is not None)


def _best(cells: Sequence[ExperimentResult], corpora: str) -> Table | None:
    table = scores.best_of_setups(cells)
    if table is None:
        return None
    experiments = ", ".join(dict.fromkeys(cell.section for cell in cells))
    caption = f"{corpora}: the best of each setup, and the views that reached it ({experiments})"
    note = "Each is the best of many by its score on the test folds, as in the paper: an optimistic choice."
    foot = (Cell("chance"), Cell(""), *(score_cells.chance(cells, criterion) for criterion in ranking.criteria(cells)))
    fields = [field for row in table.rows for field in row]
    told = [line for line in footnotes.below(cells, fields) if line not in table.notes]
    return replace(table, caption=caption, foot=(foot,), notes=(note, *table.notes, *told))


def _families(cells: Sequence[ExperimentResult]) -> dict[str, list[ExperimentResult]]:
    """The cells by the table that they stand in, in the paper's order."""
    found: dict[str, list[ExperimentResult]] = {family: [] for family in FAMILIES}
    for cell in ranking.by_setup(cells):
        setup = setups.base(cell.setup)  # of "TANGO, a model per task"
        family = next((family for family, members in FAMILIES.items() if setup in members), setup)
        found.setdefault(family + cell.setup.removeprefix(setup), []).append(cell)
    return {family: members for family, members in found.items() if members}


def _table(family: str, cells: Sequence[ExperimentResult], corpora: str) -> Table:
    """Views down, tasks across, and for each task the ways to use them side by side."""
    criteria = ranking.criteria(cells)
    variants = ranking.variants(cells)
    ways = list(dict.fromkeys(variants.values()))
    lines: dict[tuple[str, ...], dict[str, list[ExperimentResult]]] = {}
    for cell in cells:
        lines.setdefault(cell.views, {}).setdefault(variants[cell.name], []).append(cell)
    if len(lines) == 1 < len(ways) and setups.base(family) not in FAMILIES:
        return _ways_down(family, cells, corpora)
    columns, fields, foot, crowded = [], {views: [] for views in lines}, [], False
    for criterion in criteria:
        for way in ways:
            rivals = [cell for line in lines.values() for cell in line.get(way, ())]
            if all(ranking.mean(cell, criterion) is None for cell in rivals):
                continue
            columns.append(score_cells.heading(criterion, way if len(ways) > 1 else criterion[0], above=len(ways) > 1))
            foot.append(score_cells.chance(rivals, criterion))
            shared = testsets.most_shared(rivals, criterion)
            shown = {views: _shown(line.get(way, ()), shared, criterion) for views, line in lines.items()}
            crowded = crowded or len([cell for cell in rivals if ranking.mean(cell, criterion) is not None]) > len(
                list(filter(None, shown.values()))
            )
            won = iter(testsets.winners(list(filter(None, shown.values())), criterion))
            for views, cell in shown.items():
                fields[views].append(score_cells.score(cell, criterion, next(won)) if cell else Cell("–"))
    tested = size_cells.told([[cell for way in line.values() for cell in way] for line in lines.values()])
    heads = [Cell(" + ".join(views) or "–", small=told) for views, told in zip(lines, tested, strict=True)]
    rows = tuple((head, *scored) for head, scored in zip(heads, fields.values(), strict=True))
    base = setups.base(family)
    what = f"{family}: {ABOUT[base]}" if family in ABOUT else family
    found = {setups.base(cell.setup) for cell in cells}
    what += "".join(f"; {ranking.title(setup)} alone" for setup in found if found < {*FAMILIES.get(base, ())})
    chosen = ["Where several cells share a place, the best by its test score is shown."] if crowded else []
    return Table(
        f"{corpora}, {what} ({cells[0].section})",
        (Column("views"), *columns),
        rows,
        foot=((Cell("chance"), *foot),),
        notes=(*_notes(cells), *chosen, *footnotes.below(cells, (cell for row in rows for cell in row))),
    )


def _shown(
    cells: Sequence[ExperimentResult], shared: Sequence[ExperimentResult], criterion: ranking.Criterion
) -> ExperimentResult | None:
    """Of cells that share a place the best, by what most of the column was tested on; None where none has a score."""
    rivals = [cell for cell in cells if cell in shared]
    return ranking.best(rivals or testsets.most_shared(cells, criterion), criterion)


def _ways_down(family: str, cells: Sequence[ExperimentResult], corpora: str) -> Table:
    """The ways to use one view, of which any number stand below each other, and tasks across."""
    criteria = ranking.criteria(cells)
    best = {criterion: testsets.winners(cells, criterion) for criterion in criteria}
    rows = []
    ways, tested = ranking.variants(cells), size_cells.told([[cell] for cell in cells])
    for place, cell in enumerate(cells):
        scored = (score_cells.score(cell, criterion, best[criterion][place]) for criterion in criteria)
        rows.append((Cell(ways[cell.name], small=tested[place]), *scored))
    return Table(
        f"{corpora}, {family}: view {ranking.views(cells[0])} ({cells[0].section})",
        (Column("variant"), *score_cells.headings(criteria)),
        tuple(rows),
        foot=((Cell("chance"), *(score_cells.chance(cells, criterion) for criterion in criteria)),),
        notes=(*_notes(cells), *footnotes.below(cells, (cell for row in rows for cell in row))),
    )


def _notes(cells: Sequence[ExperimentResult]) -> list[str]:
    """How often each score was taken and by which encoder, and whether on the same utterances."""
    taken = {(str(cell.num_folds), len(cell.seeds)) for cell in cells}
    ((folds, seeds),) = taken if len(taken) == 1 else (("", 0),)
    over = (counted(int(folds), "fold") if folds.isdecimal() else "folds") + (f" × {seeds} seeds" if seeds > 1 else "")
    spread = spreads.OF_ONE_FOLD if taken <= {("1", 0), ("1", 1)} else f"mean ± SD over {over}"
    notes = [f"{counted(len(cells), 'cell')}; {ranking.encoders(cells)}; {spread}."]
    if len({testsets.folds_of(cell) for cell in cells}) > 1:
        notes.append("Not all cells were tested on the same folds: a view may lack utterances, or folds have changed.")
        notes.append(size_cells.APART)
    return notes
