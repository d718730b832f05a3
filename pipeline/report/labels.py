"""How the labels of a corpus are spread: every task's, and a quantity such as age split by a group such as gender.

Reads the manifest alone. Knows no results and no HTML.
"""

from __future__ import annotations

from functools import partial

import pandas as pd

from strata.pipeline.report import figures
from strata.pipeline.report.collect import Findings
from strata.pipeline.results.reading import Gap, attempt
from strata.pipeline.study.manifest import corpus_of

GROUPS = ("gender", "sex")
"""Labels that split a quantity whatever the kind of their task; those of binary tasks do so by their kind."""


def distributions(study: Findings, gaps: list[Gap]) -> list[figures.Figure]:
    """A figure for each task, and two for each corpus, quantity and group; adds gaps for those that fail."""
    if study.manifest is None:
        return []
    drawn = [
        attempt(gaps, f"the distribution of {task}", lambda task=task: _distribution(study, task))
        for task in study.params["tasks"]
    ]
    for corpus, part in study.manifest.groupby(corpus_of(study.manifest), sort=True):
        for task in study.params["tasks"]:
            for group in study.params["tasks"]:
                if (kind := study.kind(task)) and not kind.has_classes and _splits(study, group):
                    what = f"the distribution of {task} by {group} in corpus {corpus}"
                    drawn += attempt(gaps, what, partial(_split, study, part, str(corpus), task, group)) or []
    return [figure for figure in drawn if figure]


def _distribution(study: Findings, task: str) -> figures.Figure | None:
    """How a task's labels are spread; None for a task without labels, or of a kind not known."""
    from strata.trainers.tasks.classification import class_name

    label, kind = study.label(task), study.kind(task)
    if kind is None or label not in study.manifest.columns:
        return None
    labels = study.manifest[label].dropna()
    if labels.empty:
        return None
    if kind.has_classes:
        return figures.class_counts(labels.map(class_name), task)
    return figures.histogram(labels, task)


def _splits(study: Findings, task: str) -> bool:
    kind = study.kind(task)
    return kind is not None and (kind.most_classes == 2 or (kind.has_classes and study.label(task) in GROUPS))


def _split(study: Findings, part: pd.DataFrame, corpus: str, task: str, group: str) -> list[figures.Figure]:
    """The quantity over the utterances of a corpus, then over its speakers, where both are traits of a speaker, the
    same in all of one's utterances; none without labels."""
    from strata.trainers.tasks.classification import class_name

    columns = [study.label(task), study.label(group)]
    if not set(columns) <= set(part.columns):
        return []
    values = figures.finite(part[columns[0]])
    table = pd.DataFrame({"value": values, "group": part[columns[1]], "speaker": part["speaker"]})
    table = table.dropna(subset=["value", "group"])
    if table.empty:
        return []
    table["group"] = table["group"].map(class_name)
    what = {"task": task, "group": group, "corpus": corpus}
    drawn = [figures.split_histogram(table["value"], table["group"], {**what, "unit": "utterances"})]
    by_speaker = table.groupby("speaker")
    if len(by_speaker) and (by_speaker[["value", "group"]].nunique() == 1).all(axis=None):
        speakers = by_speaker.first()
        drawn.append(figures.split_histogram(speakers["value"], speakers["group"], {**what, "unit": "speakers"}))
    return drawn
