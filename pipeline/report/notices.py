"""What must be said beside a study's numbers, and the plain-text summary that says it.

Speech from the demo's synthesiser and models of random weights exercise the whole pipeline, but what comes out is no
result; a page or a terminal that shows a number says so next to it. What a licence forbids is said once, at the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from strata import extractors
from strata.pipeline.report import downstream, grids, layer_tables, poolings, probes, scores, search_tables
from strata.pipeline.report.collect import Study
from strata.pipeline.show.tables import plain


@dataclass(frozen=True)
class Notice:
    """What a reader of the study's numbers must know: why they are no results, or what may not be done with them."""

    tag: str
    """Two words, put beside every table and figure that the notice is about."""
    sentence: str
    about: str
    """`speech` or `weights`; counts of utterances need no word on weights. `licence` is put beside nothing."""


def notices(study: Study) -> list[Notice]:
    """The reasons that apply to this study; none for real speech and real weights."""
    found = about(study.synthetic_corpora, study.miniature_views)
    for family, notice in extractors.NOTICES.items():
        if views := study.views_of(family):
            sentence = f"{_named('view', 'views', views)} of family {family}: {notice}."
            found.append(Notice("licence terms", sentence, "licence"))
    return found


def about(synthetic_corpora: Sequence[str], miniature_views: Sequence[str]) -> list[Notice]:
    """The reasons that follow from these names, of which there may be none."""
    found = []
    if corpora := synthetic_corpora:
        subject = _named("corpus", "corpora", corpora)
        sentence = f"{subject} made by a small synthesiser. Numbers here say nothing of real speech."
        found.append(Notice("synthetic speech", sentence, "speech"))
    if views := miniature_views:
        subject = _named("view", "views", views)
        sentence = f"{subject} computed by untrained miniatures. Numbers here say nothing of the real models."
        found.append(Notice("random weights", sentence, "weights"))
    return found


def summary(study: Study) -> str:
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
    parts += [f"{notice.tag.capitalize()}: {notice.sentence}" for notice in notices(study)]
    return "\n\n".join(parts)


def _named(one: str, several: str, names: Sequence[str]) -> str:
    *most, last = names
    return f"The {several} {', '.join(most)} and {last} are" if most else f"The {one} {last} is"
