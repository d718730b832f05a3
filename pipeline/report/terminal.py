"""The report as plain text for a terminal: comparisons, the best of everything, what is missing, what it is worth."""

from __future__ import annotations

from dataclasses import replace

from strata.pipeline.report import downstream, grids, layer_tables, poolings, probes, scores, search_tables
from strata.pipeline.report.collect import Findings
from strata.pipeline.show.tables import plain


def summary(study: Findings) -> str:
    """The comparisons, the best of every grid, the layers kept, the best of every search, the downstream tasks, what is
    missing, and what the numbers are worth."""
    parts = []
    if study.alone:
        parts.append(plain(scores.comparison(study.alone)))
    parts += map(plain, grids.bests(study))
    parts += map(plain, poolings.tables(study.experiments, study.views_of("text")))
    if beaten := probes.beaten(study.experiments):
        parts.append("\n".join([probes.HEADING, *(f"  {line}" for line in beaten)]))
    if study.eliminations:
        kept = (f"  {e.name}, view {e.view}: {layer_tables.kept_layers(e)}" for e in study.eliminations)
        parts.append("\n".join(["Layers kept", *kept]))
    if study.searches:
        found = (f"  {search.name}: {search_tables.outcome(search)}" for search in study.searches)
        parts.append("\n".join(["Searches", *found]))
    if table := downstream.table(study.downstream, study.skipped, study.params["downstream"]):
        parts.append(plain(replace(table, notes=(*table.notes, *downstream.reasons(study.skipped)))))
    if study.gaps:
        parts.append("\n".join(["Missing or left out", *(f"  {gap}" for gap in study.gaps)]))
    parts += [notice.line for notice in study.notices]
    return "\n\n".join(parts)
