"""`strata embed NAME…`: cached layers → the unified embedding of a trained model, in embeddings/<name>.zarr.

The rows are those of the view that the model reads: nothing is decoded, and a grown view costs its new rows. A model
that was trained anew makes other embeddings, so its store is made anew as well, which costs seconds. `strata embed
--model` turns files of audio into an array instead: see `pipeline.predict`.

`Embeddings` is what `strata downstream` reads them by.
"""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from extractors.view import View
from pipeline import gather
from pipeline.errors import StageError
from pipeline.progress import bar, say
from pipeline.study import Study, for_each
from pipeline.train import SEEN
from store import FeatureStore
from trainers.spec import Folds

LAYER = "embedding"
"""Name of the one layer of such a store."""
PORTION = 4096
"""Rows that are read, embedded and written at a time."""


def run(study: Study, names: list[str]) -> None:
    """Embeds all utterances of the named sections (of all where none is named).

    Raises:
        StageError: a model is not there, or has no embedding; the other sections have been embedded.
    """
    sources = gather.Sources(study)
    for_each(study.chosen("embed", names), lambda name: _embed(study, sources, name), "embedding")


def _embed(study: Study, sources: gather.Sources, name: str) -> None:
    section = study.params.embed[name]
    folder = study.results(*section.experiment.split("/")) / "model"
    predictor, config = _model(folder, section.experiment)
    _ = predictor.embedding_dim  # that it has one is the first that must hold
    view = predictor.experiment.views[0]
    _, views = sources.select([view], {}, Folds(), section.corpora)
    cached = views[view]
    fingerprint = {
        "family": "embedding",
        "model": hashlib.blake2b((folder / "model.safetensors").read_bytes(), digest_size=16).hexdigest(),
        "view": view,
        "layers": config["layers"][view],
        "upstream": dict(cached.store.header.fingerprint),
    }
    store = _store(study.embeddings(name), fingerprint, predictor.embedding_dim)
    missing = store.missing(cached.keys)
    if not missing:
        say(f"{name}: up to date, {len(store)} embeddings")
        return
    with bar(len(missing), "embeddings", name) as progress:
        for start in range(0, len(missing), PORTION):
            keys = missing[start : start + PORTION]
            given = predictor.embed({view: cached.store.pooled(keys, config["layers"][view])})
            store.append(keys, given[:, None], np.zeros(len(keys), np.int64))
            progress.update(len(keys))
    say(f"{name}: {len(missing)} embeddings of {store.header.dim} numbers from {len(config['layers'][view])} layers")


def _model(folder: Path, experiment: str):
    from trainers.predictor import Predictor  # torch, only now

    try:
        return Predictor.load(folder)
    except FileNotFoundError:
        raise StageError(
            f"no model in {folder}: run `strata train {experiment.split('/')[0]}` first, without `final: false`"
        ) from None


def _store(path: Path, fingerprint: Mapping[str, object], dim: int) -> FeatureStore:
    """The store of a model's embeddings; of another model's nothing is kept."""
    if FeatureStore.exists(path):
        store = FeatureStore.open(path)
        if store.holds(fingerprint):
            return store
        say(f"{path} is of another model: made anew")
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return FeatureStore.create(path, fingerprint=fingerprint, layer_names=[LAYER], dim=dim)


class Embeddings(gather.Sources):
    """A study's manifest and embeddings, in the place of its views."""

    command = "embed"

    def seen(self, name: str) -> frozenset[str]:
        """Contents of the audio that an embedding's model was trained on."""
        experiment = self.study.params.embed[name].experiment
        file = self.study.results(*experiment.split("/")) / SEEN
        try:
            return frozenset(pd.read_parquet(file)["content"])
        except FileNotFoundError:
            raise StageError(
                f"no {file}: run `strata train {experiment.split('/')[0]}` and `strata embed` first"
            ) from None

    def dataset(self, table: pd.DataFrame, views: Mapping[str, gather.Cached], layers: Mapping[str, object]):
        """See `Sources.dataset`; knows what must not be tested."""
        seen = frozenset().union(*(self.seen(name) for name in views))
        return replace(super().dataset(table, views, layers), seen=seen)

    def _open(self, view: str) -> FeatureStore:
        path = self.study.embeddings(view)
        if not FeatureStore.exists(path):
            raise StageError(f"no embeddings at {path}: run `strata embed {view}` first (or `dvc pull`)")
        return FeatureStore.open(path)

    def _section(self, view: str) -> View:
        # Rows go by the keys of the view that the model reads.
        read = self._open(view).header.fingerprint["view"]
        if read not in self.study.params.views:
            raise StageError(f"the embeddings {view} were made of view {read}, which params.yaml has no more")
        return self.study.params.views[read]
