"""Maps of what the raw views know: t-SNE of one layer, coloured by labels (TANGO, Figs 6 and 7).

`params.yaml` chooses the maps, `report: {tsne: [{view: all, label: [emotion, gender], layer: "12"}]}`; where it names
none, the first view is drawn, by the first classification task. One layout serves all labels, and one label has the
same colours in all views.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from strata.pipeline.report import figures, projections
from strata.pipeline.report.collect import Findings
from strata.pipeline.report.projections import FEWEST_POINTS, Projection
from strata.pipeline.results.reading import Gap, mapping, reason
from strata.pipeline.show.names import natural_order

MANY_VALUES = 12
"""Distinct numbers from which a numeric label is a quantity, drawn in fifths."""


@dataclass(frozen=True)
class Wanted:
    """One map, as asked for in `params.yaml`."""

    view: str
    label: str
    layer: str | int
    """Name or number; `last` means what it means in an experiment."""


@dataclass(frozen=True)
class LabelMaps:
    """The maps of one label."""

    label: str
    figures: tuple[figures.Figure, ...]


def maps(study: Findings) -> tuple[list[LabelMaps], list[Gap]]:
    """The maps asked for, label by label, and why those that are missing are."""
    if study.manifest is None:
        return [], []
    wanted = _wanted(study)
    gaps: list[Gap] = []

    def missing(view: str, label: str, error: Exception) -> None:
        gaps.append(Gap(f"the t-SNE of view {view} by {label} ({reason(error)})"))

    groups, laid_out = {}, {}
    for label in dict.fromkeys(w.label for w in wanted):
        try:
            groups[label] = _groups(study.manifest, label)
        except ValueError as error:
            for w in wanted:
                if w.label == label:
                    missing(w.view, label, error)
    projected: dict[tuple[str, str | int], tuple[Projection, pd.Index]] = {}
    for w in wanted:
        place = (w.view, w.layer)
        if w.label in groups and place not in projected and place not in laid_out:
            labels = [other.label for other in wanted if (other.view, other.layer) == place and other.label in groups]
            try:
                projected[place] = _projection(study, w, labels)
            except Exception as error:  # whatever ails a store, it must not cost the reader the rest of the page
                laid_out[place] = error
    layouts = projections.layouts(
        [projection for projection, _ in projected.values()], study.folder / ".strata" / "tsne"
    )
    laid_out |= dict(zip(projected, layouts, strict=True))

    sheets = []
    for label, group in groups.items():
        drawn, asked = [], [w for w in wanted if w.label == label]
        for w in asked:
            layout = laid_out[w.view, w.layer]
            try:
                if isinstance(layout, Exception):
                    raise layout
                projection, rows = projected[w.view, w.layer]
                what = {"view": w.view, "layer": projection.layer, "label": label}
                drawn.append(_map(layout, rows, group, what, small=len(asked) > 1))
            except Exception as error:
                missing(w.view, label, error)
        if drawn and len(asked) > 1:
            drawn.insert(0, figures.key(group[1], label))
        if drawn:
            sheets.append(LabelMaps(label, tuple(drawn)))
    return sheets, gaps


def _wanted(study: Findings) -> list[Wanted]:
    views, tasks = study.params["views"], study.params["tasks"]
    if asked := study.params["report"].get("tsne"):
        every = [
            Wanted(view, label, "last" if about.get("layer") is None else about["layer"])
            for about in map(mapping, asked)
            for view in (list(views) if _listed(about.get("view")) == ["all"] else _listed(about.get("view")))
            for label in _listed(about.get("label"))
        ]
        return list(dict.fromkeys(every))
    classified = (study.label(task) for task in tasks if (kind := study.kind(task)) and kind.has_classes)
    return [Wanted(view, label, "last") for view, label in zip(views, classified, strict=False)][:1]


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _projection(study: Findings, wanted: Wanted, labels: list[str]) -> tuple[Projection, pd.Index]:
    """What is to be laid out for a view and layer, and the manifest's rows that its points stand for."""
    from strata.extractors.view import parse
    from strata.pipeline.study import keys
    from strata.pipeline.study.layers import layer_names
    from strata.store import FeatureStore

    path = study.folder / "features" / f"{wanted.view}.zarr"
    if not path.exists():
        raise ValueError("its features are not there yet")
    store = FeatureStore.open(path)
    (layer,) = layer_names(store, "last" if wanted.layer == "last" else [wanted.layer])
    stored = set(store.keys)
    labelled = study.manifest.assign(key=keys.of(parse(study.params["views"][wanted.view]), study.manifest))
    labelled = labelled.dropna(subset=labels, how="all").drop_duplicates("key")
    labelled = labelled[labelled["key"].isin(stored)]
    if len(labelled) > figures.MOST_POINTS:
        labelled = labelled.sample(figures.MOST_POINTS, random_state=0)
    fingerprint = json.dumps(dict(store.header.fingerprint), sort_keys=True)
    return Projection(path.absolute(), fingerprint, str(layer), tuple(labelled["key"])), labelled.index


def _map(
    layout: np.ndarray, rows: pd.Index, group: tuple[pd.Series, list[str]], what: Mapping[str, str], small: bool
) -> figures.Figure:
    names, order = group
    names = names.reindex(rows)
    shown = np.isfinite(layout).all(axis=1) & names.notna().to_numpy()
    if shown.sum() < FEWEST_POINTS:
        raise ValueError(projections.too_few(int(shown.sum())))
    return figures.embedding(layout[shown], names[shown].tolist(), order, what, small)


def _groups(manifest: pd.DataFrame, label: str) -> tuple[pd.Series, list[str]]:
    """Each labelled utterance's class, and the classes: the most frequent first, or fifths of a quantity from low to
    high.

    Raises:
        ValueError: there is no such label.
    """
    if label not in manifest.columns:
        raise ValueError(f"the manifest has no column {label!r}")
    labels = manifest[label].dropna()
    if pd.api.types.is_numeric_dtype(labels) and labels.nunique() > MANY_VALUES:
        fifths = pd.qcut(labels, 5, duplicates="drop")
        names = [f"{interval.left:.3g} to {interval.right:.3g}" for interval in fifths.cat.categories]
        return pd.Series([names[code] for code in fifths.cat.codes], labels.index, dtype=object), names
    from strata.trainers.tasks.classification import class_name

    named = labels.map(class_name).astype(object)
    counts = named.value_counts()
    return named, sorted(counts.index, key=lambda name: (-counts[name], natural_order(name)))
