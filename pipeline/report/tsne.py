"""Maps of what the raw views know: t-SNE of one layer, coloured by a label (TANGO, Figs 6 and 7).

`params.yaml` chooses the maps, `report: {tsne: [{view: wavlm, label: speaker, layer: "12"}]}`; where it names none, the
first view is drawn, by the first classification task. The one module of the report that opens a feature store.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.report import figures
from pipeline.report.collect import Gap, Study, mapping, reason
from pipeline.report.scores import natural_order

FEWEST_POINTS = 8
"""Utterances below which a map says nothing."""
MANY_VALUES = 12
"""Distinct numbers from which a numeric label is a quantity, drawn in fifths."""


@dataclass(frozen=True)
class Wanted:
    """One map, as asked for in `params.yaml`."""

    view: str
    label: str
    layer: str | int
    """Name or number; `last` means what it means in an experiment."""


def maps(study: Study) -> tuple[list[figures.Figure], list[Gap]]:
    """The maps asked for, and why those that are missing are."""
    drawn, gaps = [], []
    if study.manifest is None:
        return drawn, gaps
    for wanted in _wanted(study):
        try:
            drawn.append(_map(study, wanted))
        except Exception as error:  # whatever ails a store, it must not cost the reader the rest of the page
            gaps.append(Gap(f"the t-SNE of view {wanted.view} by {wanted.label} ({reason(error)})"))
    return drawn, gaps


def _wanted(study: Study) -> list[Wanted]:
    views, tasks = study.params["views"], study.params["tasks"]
    if asked := study.params["report"].get("tsne"):
        return [
            Wanted(about.get("view"), about.get("label"), "last" if about.get("layer") is None else about["layer"])
            for about in map(mapping, asked)
        ]
    classified = (study.label(task) for task in tasks if study.kind(task) != "regression")
    return [Wanted(view, label, "last") for view, label in zip(views, classified, strict=False)][:1]


def _map(study: Study, wanted: Wanted) -> figures.Figure:
    from extractors.view import parse
    from pipeline import keys
    from pipeline.gather import layer_names
    from store import FeatureStore

    path = study.folder / "features" / f"{wanted.view}.zarr"
    if wanted.label not in study.manifest.columns:
        raise ValueError(f"the manifest has no column {wanted.label!r}")
    if not path.exists():
        raise ValueError("its features are not there yet")
    store = FeatureStore.open(path)
    (layer,) = layer_names(store, "last" if wanted.layer == "last" else [wanted.layer])
    stored = set(store.keys)
    labelled = study.manifest.assign(key=keys.of(parse(study.params["views"][wanted.view]), study.manifest))
    labelled = labelled.dropna(subset=[wanted.label]).drop_duplicates("key")
    labelled = labelled[labelled["key"].isin(stored)]
    if len(labelled) > figures.MOST_POINTS:
        labelled = labelled.sample(figures.MOST_POINTS, random_state=0)
    features = np.asarray(store.pooled(labelled["key"].tolist(), layers=[layer]), dtype=np.float64)[:, 0]
    finite = np.isfinite(features).all(axis=1)
    if finite.sum() < FEWEST_POINTS:
        raise ValueError(f"{finite.sum()} utterances have both the label and features, at least {FEWEST_POINTS} needed")
    labels, order = _groups(labelled[wanted.label][finite])
    what = {"view": wanted.view, "layer": layer, "label": wanted.label}
    return figures.embedding(project(features[finite]), labels, order, what)


def project(features: np.ndarray) -> np.ndarray:
    """t-SNE of standardised features.

    Args:
        features: [utterances, dim].

    Returns:
        [utterances, 2], the same for the same features.
    """
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits  # scikit-learn's own dependency

    varying = features[:, features.std(axis=0) > 0]
    if varying.shape[1] < 2:
        raise ValueError("fewer than two dimensions vary")
    perplexity = min(30.0, (len(varying) - 1) / 3)
    tsne = TSNE(init="pca", perplexity=perplexity, max_iter=500, random_state=0)
    # Sums over threads round differently, and threads that wait for each other in a thousand short steps are slow.
    with threadpool_limits(1):
        return tsne.fit_transform(StandardScaler().fit_transform(varying).astype(np.float32))


def _groups(labels: pd.Series) -> tuple[list[str], list[str]]:
    """Each utterance's class, and the classes: the most frequent first, or fifths of a quantity from low to high."""
    if pd.api.types.is_numeric_dtype(labels) and labels.nunique() > MANY_VALUES:
        fifths = pd.qcut(labels, 5, duplicates="drop")
        names = [f"{interval.left:.3g} to {interval.right:.3g}" for interval in fifths.cat.categories]
        return [names[code] for code in fifths.cat.codes], names
    from trainers.data import class_name

    named = labels.map(class_name)
    counts = named.value_counts()
    return named.tolist(), sorted(counts.index, key=lambda name: (-counts[name], natural_order(name)))
