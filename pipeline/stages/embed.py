"""`strata embed NAME…`: cached layers → the unified embedding of a trained model, in embeddings/<name>.zarr.

The rows are those of the view that the model reads: nothing is decoded, and a grown view costs its new rows. A model
that was trained anew makes other embeddings, so its store is made anew as well, which costs seconds. `strata embed
--model` turns files of audio into an array instead: see `commands.predict`.
"""

import shutil
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from strata.pipeline.errors import StageError, for_each
from strata.pipeline.files import write_if_changed
from strata.pipeline.progress import bar, counted, say
from strata.pipeline.study import options
from strata.pipeline.study.embeddings import LAYER, SEEN, digest
from strata.pipeline.study.folder import Study
from strata.pipeline.study.sources import Sources
from strata.store import FeatureStore, differences
from strata.store.lock import exclusive
from strata.trainers import revisions
from strata.trainers.spec import Folds

PORTION = 4096
"""Rows that are read, embedded and written at a time."""


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    options.add_stage(parser, run, "NAME", "strata embed unified")


def run(study: Study, names: list[str]) -> None:
    """Embeds all utterances of the named sections (of all where none is named).

    Raises:
        StageError: a model is not there, or has no embedding; the other sections have been embedded.
    """
    with Sources(study) as sources:
        for_each(study.chosen("embed", names), lambda name: _embed(study, sources, name), "embedding")


def _embed(study: Study, sources: Sources, name: str) -> None:
    section = study.params.embed[name]
    results = study.results(*section.experiment.split("/"))
    predictor, config = _model(results, section.experiment)
    _ = predictor.embedding_dim  # that it has one is the first that must hold
    view, layers = predictor.experiment.views[0], config["layers"][predictor.experiment.views[0]]
    _, views = sources.select([view], {}, Folds(), section.corpora)
    cached = views[view]
    _check(cached.store, config, view, section.experiment)
    seen = (results / SEEN).read_bytes()
    fingerprint = {
        "family": "embedding",
        "model": digest((results / "model" / "model.safetensors").read_bytes()),
        "seen": digest(seen),
        "view": view,
        "layers": layers,
        "upstream": _values(cached.store.header.fingerprint),
        "revisions": revisions.of_embedding(predictor.experiment),
    }
    with exclusive(study.results("embed", name)):  # the store has a lock of its own, and may be removed
        store = _store(study.embeddings(name), fingerprint, predictor.embedding_dim)
        write_if_changed(store.path / SEEN, seen)  # before any row: whoever reads one must know what not to test
        missing = store.missing(cached.keys)
        if not missing:
            say(f"{name}: up to date, {counted(len(store), 'embedding')}")
            return
        with bar(len(missing), "embeddings", name) as progress:
            for start in range(0, len(missing), PORTION):
                part = missing[start : start + PORTION]
                given = predictor.embed({view: cached.store.pooled(part, layers)})
                store.append(part, given[:, None], np.zeros(len(part), np.int64))
                progress.update(len(part))
    made, width = counted(len(missing), "embedding"), counted(store.header.dim, "number")
    say(f"{name}: {made} of {width} from {counted(len(layers), 'layer')}")


def _values(fingerprint: Mapping[str, object]) -> dict[str, object]:
    """A fingerprint without what changes no value: which layers are kept besides those that are read."""
    return {field: value for field, value in fingerprint.items() if field not in ("layers", "frames")}


def _check(store: FeatureStore, config: Mapping, view: str, experiment: str) -> None:
    """Raises StageError unless a store holds what the model was trained on."""
    if lost := [layer for layer in config["layers"][view] if layer not in store.layer_names]:
        raise StageError(
            f"view {view} has no layer {lost[0]} any more, which experiment {experiment} was trained on; run "
            f"`strata train {experiment.split('/')[0]}`, or bring the wide store back"
        )
    recorded = _values(config["provenance"]["views"][view]["fingerprint"])
    here = _values(store.header.fingerprint)
    if recorded != here:
        raise StageError(
            f"view {view}: expected the values that experiment {experiment} was trained on, found others "
            f"({differences(recorded, here, ('trained on', 'here'))}); run `strata train {experiment.split('/')[0]}`"
        )


def _model(results: Path, experiment: str):
    from strata.trainers.evaluation.predictor import Predictor  # torch, only now

    # metrics.json is written last: without it a training was cut short, and what lies there may not belong together.
    if not all((results / file).exists() for file in ("metrics.json", SEEN, "model/config.json")):
        raise StageError(
            f"no model in {results / 'model'}: run `strata train {experiment.split('/')[0]}` first, without "
            "`final: false`"
        )
    return Predictor.load(results / "model")


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
