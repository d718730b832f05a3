"""The store that an extraction fills: opened, made to measure, or refused. Computes no values."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from strata.pipeline.errors import StageError
from strata.pipeline.extraction import work
from strata.pipeline.extraction.runners import Runner
from strata.pipeline.extraction.work import Shape
from strata.pipeline.study.folder import Study
from strata.store import FeatureStore, Journal, StoreError
from strata.store.layout import default_block_rows
from strata.store.lock import exclusive


def opened(study: Study, view: str, fingerprint: Mapping, runner: Runner, utterances: pd.DataFrame) -> FeatureStore:
    """The view's store, empty where there was none.

    Raises:
        FingerprintMismatch: it holds another view's rows, or its journal does.
        StageError: the values are there under a name that params.yaml no longer has.
    """
    path = study.store(view)
    if FeatureStore.exists(path):
        store = FeatureStore.open(path)
        if store.holds(fingerprint) or len(store) or Journal(store.storage, store.header).keys:
            store.check(fingerprint)
            return store
        _remove_empty(path)
        return opened(study, view, fingerprint, runner, utterances)  # by now it may be another process's
    _refuse_renamed(study, view, fingerprint)
    return create(path, runner.ask(work.shape), utterances)


def _remove_empty(path: Path) -> None:
    """Makes room for the store of another view: one that was refused before its first row left nothing behind."""
    with exclusive(path):
        store = FeatureStore.open(path)
        if not len(store):  # nobody has begun to fill it since
            Journal(store.storage, store.header).clear()
            shutil.rmtree(path)


def create(path: Path, shape: Shape, utterances: pd.DataFrame) -> FeatureStore:
    """An empty store for values of that shape, its blocks suited to such utterances."""
    mean_s = utterances["duration_s"].mean()
    return FeatureStore.create(
        path,
        fingerprint=shape.fingerprint,
        layer_names=shape.layer_names,
        dim=shape.dim,
        frame_layers=shape.frame_layers,
        frame_dim=shape.frame_dim,
        frame_rate_hz=shape.frame_rate_hz,
        block_rows=default_block_rows(shape.num_bytes(1, mean_s), mean_s),
    )


def _refuse_renamed(study: Study, view: str, fingerprint: Mapping) -> None:
    """Raises StageError if the values are there under a name that params.yaml no longer has: a view was renamed."""
    path = study.store(view)
    for other in sorted(path.parent.glob("*.zarr")):
        if other.stem in study.params.views:
            continue
        try:
            same = FeatureStore.open(other).holds(fingerprint)
        except StoreError:
            continue  # what cannot be opened holds nothing worth keeping, and is in nobody's way
        if same:
            raise StageError(
                f"{other} holds these very values under a name that {study.params_file} no longer has: "
                f"`mv {other} {path}` to keep them, or `strata store drop {other}`"
            )
