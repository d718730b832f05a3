"""What a result follows from, as one hash, and whether a result that is there follows from it still."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from strata import trainers
from strata.pipeline.files import write_if_changed
from strata.pipeline.stages.provenance import manifest_hash
from strata.pipeline.study import segments
from strata.pipeline.study.folder import Study
from strata.pipeline.study.sources import Cached
from strata.trainers.inputs.data import class_name
from strata.trainers.spec import Folds, Task


def identity_of(
    section: object,
    tasks: Mapping[str, Task],
    folds: Folds,
    table: pd.DataFrame,
    views: Mapping[str, Cached],
    more: object = None,
) -> str:
    """A hash of all that a result follows from: configuration, labels that it uses, cached values, trainers' code, and
    what `more` there is that JSON can hold."""
    digest = hashlib.blake2b(digest_size=16)
    configuration = [
        section.model_dump(mode="json"),
        {name: task.model_dump(mode="json") for name, task in tasks.items()},
        more,
    ]
    digest.update(json.dumps(configuration, sort_keys=True).encode())
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
    digest.update(_code())
    return digest.hexdigest()


@cache
def _code() -> bytes:
    """Identity of the code that selects and trains."""
    files = [
        Path(__file__),
        Path(segments.__file__).with_name("sources.py"),
        *sorted(Path(trainers.__file__).parent.rglob("*.py")),
    ]
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=16).digest()


def up_to_date(study: Study, file: Path, cell: str) -> bool:
    """Whether a result file came from the very same configuration, data and code.

    One that did follows from the manifest of today as much as from that of its training, which may have had other
    utterances or labels besides: the file then names today's, so that no two results seem to be of different states.
    """
    try:
        found = json.loads(file.read_text())
        if found["cell"] != cell:
            return False
        recorded = found["provenance"]["manifest"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if recorded != (today := manifest_hash(study.manifest)):
        found["provenance"]["manifest"] = today
        write_if_changed(file, (json.dumps(found, indent=1) + "\n").encode())
    return True
