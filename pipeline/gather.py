"""From the stores and the manifest to what a trainer takes: arrays and labels, one row per usable utterance."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

import trainers
from extractors.view import TextView
from pipeline import dvcfile, keys
from pipeline.corpus import COLUMNS
from pipeline.errors import StageError
from pipeline.progress import say
from pipeline.study import Study
from store import FeatureStore
from trainers.data import Dataset, class_name
from trainers.spec import Folds, Task


@dataclass(frozen=True)
class Cached:
    """A view's store, and which of its rows are those of the selected utterances."""

    store: FeatureStore
    keys: Sequence[str]
    """One per utterance."""


def select(
    study: Study, views: Sequence[str], tasks: Mapping[str, Task], folds: Folds
) -> tuple[pd.DataFrame, dict[str, Cached]]:
    """The manifest's rows that every view has and at least one task is labelled for, and the views' values of them."""
    table = study.read_manifest()
    labels = [task.label or name for name, task in tasks.items() if (task.label or name) in table]
    labelled = table[table[labels].notna().any(axis=1)] if labels else table
    stores = {view: _open(study, view) for view in views}
    usable = labelled
    for view, store in stores.items():
        own = keys.of(study.params.views[view], usable)
        known = own.dropna()
        there = known[~known.isin(set(store.missing(known.tolist())))].index
        if len(there) < len(usable):
            say(
                f"{len(usable) - len(there)} of {len(usable)} utterances are not in view {view} and are left out; "
                f"`strata extract {view}` tells why"
            )
            usable = usable.loc[there]
    if usable.empty:
        raise StageError(f"no utterance is in all of {', '.join(views)} and labelled for {', '.join(tasks)}")
    usable = usable.reset_index(drop=True)
    cached = {view: Cached(store, keys.of(study.params.views[view], usable).tolist()) for view, store in stores.items()}
    for view, found in cached.items():
        section = study.params.views[view]
        if isinstance(section, TextView) and folds.disjoint != section.columns[0]:
            _mention_shared_texts(view, section.columns[0], found, usable)
    return usable, cached


def _mention_shared_texts(view: str, column: str, cached: Cached, table: pd.DataFrame) -> None:
    """Says so where several recordings have one text: folds keep recordings apart, and not what is said in them."""
    recordings = table.groupby(pd.Series(cached.keys, index=table.index))["content"].transform("nunique")
    if shared := int((recordings > 1).sum()):
        say(
            f"{view}: {shared} of {len(table)} utterances share their text with another recording, so a text that is "
            f"tested may have been trained on; `folds: {{disjoint: {column}}}` keeps texts apart"
        )


def _open(study: Study, view: str) -> FeatureStore:
    """A view's store; on a box that never extracts, the one that another box has pushed."""
    if dvcfile.lacking(study, view):
        dvcfile.pull(study, view)
    return FeatureStore.open(study.store(view))


def dataset(table: pd.DataFrame, views: Mapping[str, Cached], layers: Mapping[str, Sequence[str]]) -> Dataset:
    """Reads the layers of every view, once, into memory."""
    return Dataset(
        utterances=table["utterance"].tolist(),
        contents=table["content"].tolist(),
        labels=table.drop(columns=[c for c in COLUMNS if c not in ("speaker", "split", "transcript")]),
        features={view: cached.store.pooled(cached.keys, layers[view]) for view, cached in views.items()},
    )


def synthetic_corpora(study: Study, table: pd.DataFrame) -> list[str]:
    """Those among the corpora of these utterances in which nobody ever spoke."""
    used = set(table["utterance"].str.partition("/")[0])
    return [name for name, corpus in study.params.corpora.items() if corpus.synthetic and name in used]


def layer_names(store: FeatureStore, wanted: str | Sequence[str | int]) -> tuple[str, ...]:
    """The layers that an experiment's `layers` means in one store.

    `last` is the model's output: `last_hidden_state` where the store has it, else the highest hidden state.
    """
    names = store.layer_names
    if wanted == "all":
        return tuple(name for name in names if name != "last_hidden_state") or names
    if wanted == "last":
        return (max(names, key=_height),)
    return tuple(str(name) for name in wanted)


def _height(layer: str) -> float:
    return float(layer) if layer.isdigit() else float("inf") if layer == "last_hidden_state" else -1.0


def identity(
    section: object, tasks: Mapping[str, Task], folds: Folds, table: pd.DataFrame, views: Mapping[str, Cached]
) -> str:
    """A hash of all that a result follows from: configuration, labels that it uses, cached values, trainers' code."""
    digest = hashlib.blake2b(digest_size=16)
    configuration = [
        section.model_dump(mode="json"),
        {name: task.model_dump(mode="json") for name, task in tasks.items()},
    ]
    digest.update(json.dumps(configuration, sort_keys=True).encode())
    labels = {task.label or name for name, task in tasks.items()} | {folds.stratify, folds.disjoint, folds.given}
    for name in ["utterance", "content", *sorted(labels & set(table.columns))]:
        values = table[name].map(class_name, na_action="ignore").astype(object)
        digest.update(json.dumps([name, values.where(values.notna(), None).tolist()]).encode())
    for view, cached in views.items():
        digest.update(json.dumps([view, dict(cached.store.header.fingerprint), cached.keys], sort_keys=True).encode())
    for file in [Path(__file__), *sorted(Path(trainers.__file__).parent.glob("*.py"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def provenance(study: Study, views: Mapping[str, Cached]) -> dict[str, object]:
    """Where a result comes from: audio, weights, code and library versions."""
    return {
        "views": {
            view: {"fingerprint": dict(cached.store.header.fingerprint), "rows": len(cached.store)}
            for view, cached in views.items()
        },
        "manifest": hashlib.blake2b(study.manifest.read_bytes(), digest_size=16).hexdigest(),
        "versions": {name: version(name) for name in ("strata-speech", "torch", "scikit-learn", "POT", "numpy")},
        "code": _code_version(),
    }


@cache
def _code_version() -> str:
    """The git commit of this code where it runs from a checkout, marked if edited since; else the installed version."""
    import subprocess

    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return version("strata-speech")
    try:
        found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True)
    except OSError:  # no git on this machine
        return version("strata-speech")
    return found.stdout.strip() or version("strata-speech")


def up_to_date(file: Path, cell: str) -> bool:
    """Whether a result file came from the very same configuration, data and code."""
    try:
        return json.loads(file.read_text())["cell"] == cell
    except (OSError, ValueError, KeyError, TypeError):
        return False


def shape_note(data: Dataset) -> str:
    """What a trainer was given, for a person."""
    sizes = ", ".join(f"{view} {f.shape[1]}×{f.shape[2]}" for view, f in data.features.items())
    return f"{len(data)} utterances, {sizes}, {np.sum([f.nbytes for f in data.features.values()]) / 1e6:.1f} MB"
