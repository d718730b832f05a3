"""The page: what `collect` found, turned into figures and tables and laid out by `page.html`.

Decides which figure and table stands in which section; how they are drawn and styled is not its business.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

import jinja2
from markupsafe import Markup

from strata.pipeline.progress import noun
from strata.pipeline.report import (
    downstream,
    exhibits,
    grids,
    inventory,
    labels,
    poolings,
    probes,
    scores,
    tsne,
)
from strata.pipeline.report.collect import Findings
from strata.pipeline.report.drawings import Drawings
from strata.pipeline.results.reading import attempt
from strata.pipeline.show.tables import Table, duration, number

OPEN_EXPERIMENTS = 6
"""Experiments up to which the page shows all of each at once; more are folded away, one line each."""

SCRIPTS = ("drawings.js", "page.js")
"""The page's own script, in order; the page allows no other."""

WIDEST_FIGURE = 520
"""CSS pixels up to which a figure shrinks with a narrow screen; a wider one keeps its size and scrolls."""


def render(study: Findings) -> str:
    """The whole page as one HTML text that loads nothing."""
    maps, map_gaps = tsne.maps(study)
    gaps = [*study.gaps, *map_gaps]
    eliminations = [exhibits.elimination(found, gaps) for found in study.eliminations]
    searches = [exhibits.search(found, gaps) for found in study.searches]
    drawings = Drawings(gaps)
    experiments = [exhibits.experiment(found, drawings) for found in study.alone]
    embedded = attempt(gaps, "the table of the downstream tasks", lambda: _downstream(study))
    heads = [exhibits.downstream(found, drawings) for found in study.downstream]
    unified = attempt(gaps, "the tables of the layer poolings", lambda: _poolings(study)) or []
    sheets = attempt(gaps, "the tables of the grids", lambda: grids.sheets(study)) or []
    drawings.add_cells(study.cells)
    script = "".join(_asset(name) for name in SCRIPTS)
    distributions = labels.distributions(study, gaps)
    return (
        _environment()
        .get_template("page.html")
        .render(
            style=Markup(_asset("style.css")),
            script=Markup(script),
            script_hash=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
            title=study.folder.resolve().name,
            notices=study.notices,
            gaps=gaps,
            totals=_totals(study),
            beaten=attempt(gaps, "the models that a linear probe beats", lambda: probes.beaten(study.experiments))
            or [],
            beaten_heading=probes.HEADING,
            comparison=scores.comparison(study.alone) if study.alone else None,
            best=scores.best_of_setups(study.alone),
            sheets=sheets,
            drawings=Markup(drawings.text),
            has_cells=bool(study.cells),
            poolings=unified,
            eliminations=[exhibit for exhibit in eliminations if exhibit],
            searches=[exhibit for exhibit in searches if exhibit],
            downstream=embedded,
            heads=heads,
            experiments=experiments,
            unfolded=len(study.alone) <= OPEN_EXPERIMENTS,
            maps=maps,
            distributions=distributions,
            corpora=None if study.manifest is None else inventory.corpora(study),
            failures=inventory.failures(study),
            timings=inventory.timings(study),
            manifest_hash=study.manifest_hash,
            dossiers=inventory.dossiers(study),
            disagreements=inventory.disagreements(study),
            params=inventory.as_yaml({name: section for name, section in study.params.items() if section}),
            svg=Markup,
            widest=WIDEST_FIGURE,
        )
    )


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("strata.pipeline.report", "."),
        autoescape=True,  # labels, file names and reasons are whatever users' disks hold
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> str:
    return files("strata.pipeline.report").joinpath(name).read_text(encoding="utf-8")


def _totals(study: Findings) -> list[tuple[str, str]]:
    """The few numbers that say how large the study is."""
    totals = []
    if study.manifest is not None:
        speakers = int(study.manifest["speaker"].nunique())
        totals += [
            (noun(len(study.manifest), "utterance"), number(len(study.manifest), 0)),
            ("of audio", duration(float(study.manifest["duration_s"].sum()))),
            (noun(speakers, "speaker"), number(speakers, 0)),
        ]
    found = {
        ("view", "views"): study.params["views"],
        ("task", "tasks"): study.params["tasks"],
        ("experiment", "experiments"): study.alone,
        ("cell of a grid", "cells of grids"): study.cells,
        ("search", "searches"): study.searches,
        ("downstream task", "downstream tasks"): [task for result in study.downstream for task in result.tasks],
    }
    return totals + [(noun(len(things), *words), str(len(things))) for words, things in found.items() if things]


def _downstream(study: Findings) -> Table | None:
    return downstream.table(study.downstream, study.skipped, study.params["downstream"])


def _poolings(study: Findings) -> list[Table]:
    return poolings.tables(study.experiments, study.views_of("text"))
