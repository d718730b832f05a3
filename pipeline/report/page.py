"""The page: what `collect` found, turned into figures and tables and laid out by `page.html`.

Decides which figure and table stands in which section; how they are drawn and styled is not its business.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from pipeline.report import figures, inventory, scores, tsne
from pipeline.report.collect import Elimination, Experiment, Study
from pipeline.report.notices import notices
from pipeline.report.tables import Table, duration, number

OPEN_EXPERIMENTS = 6
"""Experiments up to which the page shows all of each at once; more are folded away, one line each."""

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
    manifest = study.manifest
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", "."),
        autoescape=True,  # labels, file names and reasons are whatever users' disks hold
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        style=Markup(files("pipeline.report").joinpath("style.css").read_text(encoding="utf-8")),
        title=study.folder.resolve().name,
        notices=notices(study),
        gaps=[*study.gaps, *map_gaps],
        totals=_totals(study),
        comparison=scores.comparison(study.experiments) if study.experiments else None,
        best=scores.best_of_setups(study.experiments),
        eliminations=[_elimination(elimination) for elimination in study.eliminations],
        experiments=[_experiment(experiment) for experiment in study.experiments],
        unfolded=len(study.experiments) <= OPEN_EXPERIMENTS,
        maps=maps,
        distributions=[] if manifest is None else _distributions(study),
        corpora=None if manifest is None else inventory.corpora(study),
        failures=inventory.failures(study),
        timings=inventory.timings(study),
        manifest_hash=study.manifest_hash,
        dossiers=inventory.dossiers(study),
        disagreements=inventory.disagreements(study),
        params=inventory.as_yaml({name: section for name, section in study.params.items() if section}),
        svg=Markup,
        widest=WIDEST_FIGURE,
    )


def _totals(study: Study) -> list[tuple[str, str]]:
    """The few numbers that say how large the study is."""
    totals = []
    if study.manifest is not None:
        totals += [
            ("utterances", number(len(study.manifest), 0)),
            ("of audio", duration(float(study.manifest["duration_s"].sum()))),
            ("speakers", number(int(study.manifest["speaker"].nunique()), 0)),
        ]
    counted = {"views": study.params["views"], "tasks": study.params["tasks"], "experiments": study.experiments}
    return totals + [(what, str(len(counted[what]))) for what in counted if counted[what]]


def _experiment(experiment: Experiment) -> Exhibit:
    drawn, folded = [], []
    for task, kind in experiment.kinds.items():
        answers = scores.answers(experiment, task)
        if answers.empty:
            continue
        if kind == "regression":
            drawn.append(figures.scatter(*answers.to_numpy(float).T, experiment.name, task))
        elif kind in ("classification", "binary"):
            true, predicted = (answers[side].map(scores.class_name) for side in answers)
            known = [scores.class_name(c) for c in experiment.classes.get(task) or ()]
            classes = list(dict.fromkeys([*known, *sorted({*true, *predicted}, key=scores.natural_order)]))
            counts = scores.confusions(true, predicted, classes)
            drawn.append(figures.confusion(counts, classes, experiment.name, task))
            if len(classes) > figures.COUNTED_CLASSES:
                folded.append(scores.frequent_confusions(counts, classes, task))
    drawn += _curves(experiment)
    facts = [experiment.setup, scores.views(experiment)]
    facts += [f"{number(experiment.num_utterances, 0)} utterances"] if experiment.num_utterances else []
    if experiment.num_folds:
        facts.append("1 fold" if experiment.num_folds == 1 else f"{experiment.num_folds} folds")
    facts += [f"{len(experiment.seeds)} seeds"] if len(experiment.seeds) > 1 else []
    return Exhibit(experiment.name, " · ".join(facts), tuple(drawn), (scores.metrics(experiment),), tuple(folded))


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
        subtitle += f" · the upstream can be cut {unneeded} layers early"
    drawn = (figures.layer_weights(elimination), figures.elimination_curve(elimination))
    return Exhibit(elimination.name, subtitle, drawn, (), folded=(scores.elimination_rounds(elimination),))


def _distributions(study: Study) -> list[figures.Figure]:
    drawn = []
    for task in study.params["tasks"]:
        label, kind = study.label(task), study.kind(task)
        labels = study.manifest[label].dropna() if label in study.manifest.columns else pd.Series(dtype=object)
        if labels.empty or kind == "ctc":
            continue
        if kind == "regression":
            drawn.append(figures.histogram(labels.to_numpy(np.float64), task))
        else:
            drawn.append(figures.class_counts(labels.map(scores.class_name), task))
    return drawn
