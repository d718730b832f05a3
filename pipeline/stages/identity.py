"""What a result follows from, as one hash, and whether a result that is there follows from it still."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from strata.pipeline.files import write_if_changed
from strata.pipeline.stages.provenance import manifest_hash
from strata.pipeline.study import segments
from strata.pipeline.study.folder import Study
from strata.pipeline.study.sources import Cached
from strata.trainers.spec import Folds, Task
from strata.trainers.tasks.classification import class_name


def identity_of(
    section: Mapping[str, object],
    tasks: Mapping[str, Task],
    folds: Folds,
    table: pd.DataFrame,
    views: Mapping[str, Cached],
    revisions: Mapping[str, int],
    seen: Collection[str] = (),
    more: object = None,
) -> str:
    """A hash of all that a result follows from; versions of libraries are no part of it (`stages.provenance`).

    Args:
        section: of params.yaml, resolved: see `trainers.section`.
        tasks: those that it names.
        folds: how it divides.
        table: the utterances that take part, with their labels, of which those count that are used.
        views: the cached values.
        revisions: of the parts that compute the result: see `trainers.revisions`.
        seen: contents that are not tested: see `Sources.seen_by`.
        more: what else there is, that JSON can hold.
    """
    digest = hashlib.blake2b(digest_size=16)
    questions = {name: task.resolved() | {"label": task.label or name} for name, task in tasks.items()}
    untested = sorted(set(seen).intersection(table["content"]))
    digest.update(json.dumps([section, questions, revisions, untested, more], sort_keys=True).encode())
    # Whatever order the rows have: see `trainers.inputs.data.Dataset.rank`.
    order = np.lexsort([table["content"].to_numpy(str), table["utterance"].to_numpy(str)])
    table = table.iloc[order]
    labels = {task.label or name for name, task in tasks.items()} | folds.labels
    labels -= {"audio"}  # not where it lies: the recordings are told by their segments
    for name in ["utterance", "content", *sorted(labels & set(table.columns))]:
        values = table[name].map(class_name, na_action="ignore").astype(object)
        digest.update(json.dumps([name, values.where(values.notna(), None).tolist()]).encode())
    spans = segments.spans(table)
    recordings, names = pd.factorize(spans.pop("recording"))
    if len(names) < len(table):  # files that are each one utterance are told by their contents
        digest.update(json.dumps([recordings.tolist(), spans.to_numpy().tolist()]).encode())
    for view, cached in views.items():
        found = [cached.keys[row] for row in order]
        digest.update(json.dumps([view, dict(cached.store.header.fingerprint), found], sort_keys=True).encode())
    return digest.hexdigest()


def up_to_date(study: Study, file: Path, cell: str, config: Mapping[str, object]) -> bool:
    """Whether a result file came from what there is now: the same identity.

    One that did follows from the manifest of today as much as from that of its training, which may have had other
    utterances or labels besides, and from the section of today, which may have keys that do nothing: the file then
    names today's, so that no two results seem to be of different states.

    Args:
        study: whose manifest it is.
        file: the result, JSON.
        cell: the identity that it would have now.
        config: the section as it would be written into it now.
    """
    try:
        found = json.loads(file.read_text())
        if found["cell"] != cell:
            return False
        recorded = {"manifest": found["provenance"]["manifest"], "config": found["config"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    today = {"manifest": manifest_hash(study.manifest), "config": config}
    if recorded != today:
        found["provenance"]["manifest"], found["config"] = today.values()
        write_if_changed(file, (json.dumps(found, indent=1) + "\n").encode())
    return True
