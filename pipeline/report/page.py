"""The page: what `collect` found, turned into figures and tables and laid out by `page.html`.

Decides which figure and table stands in which section; how they are drawn and styled is not its business.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

import jinja2
from markupsafe import Markup

from pipeline.report import details, figures, grids, inventory, labels, ranking, scores, tsne
from pipeline.report.collect import Elimination, Study
from pipeline.report.experiments import Experiment
from pipeline.report.notices import notices
from pipeline.report.reading import Gap, attempt
from pipeline.report.tables import Table, duration, number

OPEN_EXPERIMENTS = 6
"""Experiments up to which the page shows all of each at once; more are folded away, one line each."""

SCRIPTS = ("drawings.js", "page.js")
"""The page's own script, in order; the page allows no other."""

WIDEST_FIGURE = 520
"""CSS pixels up to which a figure shrinks with a narrow screen; a wider one keeps its size and scrolls."""


@dataclass(frozen=True)
class Exhibit:
    """One experiment or elimination: its figures and tables under a heading of its own."""

    name: str
    subtitle: str
    figures: tuple[figures.Figure, ...]
    tables: tuple[Table, ...]
    folded: tuple[Table, ...] = ()
    """Tables that open on request."""


def render(study: Study) -> str:
    """The whole page as one HTML text that loads nothing."""
    maps, map_gaps = tsne.maps(study)
    gaps = [*study.gaps, *map_gaps]
    eliminations = [
        attempt(
            gaps, f"layer elimination {elimination.name}", lambda elimination=elimination: _elimination(elimination)
        )
        for elimination in study.eliminations
    ]
    experiments = [_experiment(experiment, gaps) for experiment in study.alone]
    sheets = attempt(gaps, "the tables of the grids", lambda: grids.sheets(study)) or []
    cells = details.embedded(study.cells, gaps)
    script = "".join(_asset(name) for name in SCRIPTS)
    distributions = labels.distributions(study, gaps)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", "."),
        autoescape=True,  # labels, file names and reasons are whatever users' disks hold
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        style=Markup(_asset("style.css")),
        script=Markup(script),
        script_hash=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
        title=study.folder.resolve().name,
        notices=notices(study),
        gaps=gaps,
        totals=_totals(study),
        comparison=scores.comparison(study.alone) if study.alone else None,
        best=scores.best_of_setups(study.alone),
        sheets=sheets,
        details=Markup(cells),
        eliminations=[exhibit for exhibit in eliminations if exhibit],
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


def _asset(name: str) -> str:
    return files("pipeline.report").joinpath(name).read_text(encoding="utf-8")


def _totals(study: Study) -> list[tuple[str, str]]:
    """The few numbers that say how large the study is."""
    totals = []
    if study.manifest is not None:
        totals += [
            ("utterances", number(len(study.manifest), 0)),
            ("of audio", duration(float(study.manifest["duration_s"].sum()))),
            ("speakers", number(int(study.manifest["speaker"].nunique()), 0)),
        ]
    counted = {
        "views": study.params["views"],
        "tasks": study.params["tasks"],
        "experiments": study.alone,
        "cells of grids": study.cells,
    }
    return totals + [(what, str(len(counted[what]))) for what in counted if counted[what]]


def _experiment(experiment: Experiment, gaps: list[Gap]) -> Exhibit:
    name, drawn, folded = experiment.name, [], []
    for task in experiment.kinds:
        what = f"the figure of task {task} in experiment {name}"
        shown = attempt(gaps, what, lambda task=task: _answers(experiment, task))
        if shown:
            drawn += shown[0]
            folded += shown[1]
    drawn += attempt(gaps, f"the training curves of experiment {name}", lambda: _curves(experiment)) or []
    table = attempt(gaps, f"the table of experiment {name}", lambda: scores.metrics(experiment))
    facts = [experiment.setup, ranking.views(experiment)]
    facts += [f"{number(experiment.num_utterances, 0)} utterances"] if experiment.num_utterances else []
    if experiment.num_folds:
        facts.append("1 fold" if experiment.num_folds == 1 else f"{experiment.num_folds} folds")
    facts += [f"{len(experiment.seeds)} seeds"] if len(experiment.seeds) > 1 else []
    return Exhibit(name, " · ".join(facts), tuple(drawn), (table,) if table else (), tuple(folded))


def _answers(experiment: Experiment, task: str) -> tuple[list[figures.Figure], list[Table]]:
    """Figures and tables of what an experiment answered for one task."""
    from trainers.data import class_name

    kind, answers = experiment.kinds[task], scores.answers(experiment, task)
    if answers.empty or kind not in ("classification", "binary", "regression"):
        return [], []
    if kind == "regression":
        return [figures.scatter(answers, experiment.name, task)], []
    true, predicted = (answers[side].map(class_name) for side in answers)
    known = map(class_name, experiment.classes.get(task, ()))
    classes = list(dict.fromkeys([*known, *sorted({*true, *predicted}, key=scores.natural_order)]))
    counts = scores.confusions(true, predicted, classes)
    many = len(classes) > figures.COUNTED_CLASSES
    tables = [scores.frequent_confusions(counts, classes, task)] if many else []
    return [figures.confusion(counts, classes, experiment.name, task)], tables


def _curves(experiment: Experiment) -> list[figures.Figure]:
    curves = experiment.curves
    if curves is None or curves.empty:
        return []
    groups = curves.groupby("task_group", sort=False)
    return [figures.training_curves(group, experiment.name, figures.short(name, 60)) for name, group in groups]


def _elimination(elimination: Elimination) -> Exhibit:
    unneeded = scores.unneeded_layers(elimination)
    subtitle = f"view {elimination.view} · kept {scores.kept_layers(elimination)}"
    if unneeded:
        subtitle += f" · the upstream can be cut {unneeded} layer{'s' if unneeded > 1 else ''} early"
    drawn = (figures.layer_weights(elimination), figures.elimination_curve(elimination))
    return Exhibit(elimination.name, subtitle, drawn, (), folded=(scores.elimination_rounds(elimination),))
