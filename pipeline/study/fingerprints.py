"""A model's fingerprint, without loading its libraries where nothing has changed since it was last asked for.

Making an extractor takes seconds (PyTorch, hashes of gigabytes), and an extraction that has nothing to do needs only
its fingerprint. `.strata/fingerprints/<view>.json` keeps it, with all that it follows from: the section of params, the
code of `extractors`, and sizes and times of the checkpoint's files. Whoever computes a block makes the extractor itself
and compares.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from strata import extractors
from strata.extractors.sources import LOCAL_DIRECTORY
from strata.pipeline.files import code_hash, write_if_changed

if TYPE_CHECKING:
    from strata.extractors import Extractor
    from strata.extractors.transformers.recogniser import Recogniser


def remembered(folder: Path, name: str, section: str, look: Callable[[], Mapping[str, object]]) -> Mapping[str, object]:
    """A fingerprint from memory, or from the model itself.

    Args:
        folder: the study's.
        name: of the memory, below `.strata/fingerprints`.
        section: of params, as JSON.
        look: makes the model and tells what it is, see `seen`.
    """
    memory = _memory(folder, name)
    try:
        known = json.loads(memory.read_text())
        if known["causes"] == _causes(section, known["checkpoint"]):
            return known["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or not to be trusted: it only saves time
    found = look()
    write_if_changed(memory, json.dumps(found, indent=1).encode())
    return found["fingerprint"]


def changed(folder: Path, name: str, section: str, fingerprint: Mapping[str, object]) -> Path | None:
    """The folder of a local checkpoint, where values of that fingerprint were made by another state of it; None where
    they were not, and where that cannot be told: without a memory, or without the checkpoint. Loads and hashes nothing.

    Args:
        folder: the study's.
        name: of the memory.
        section: of params, as JSON.
        fingerprint: of the values at hand.
    """
    if fingerprint.get("source") != LOCAL_DIRECTORY:
        return None  # what a hub has under a commit stays as it is
    try:
        known = json.loads(_memory(folder, name).read_text())
        checkpoint = known["checkpoint"]
        then, now = known["causes"], _causes(section, checkpoint)
        here = now[_NUM_OTHER_CAUSES:]
        if then[0] != section or not here:
            return None
        other = then[_NUM_OTHER_CAUSES:] != here or (then == now and known["fingerprint"] != fingerprint)
        return Path(checkpoint) if other else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _memory(folder: Path, name: str) -> Path:
    return folder / ".strata" / "fingerprints" / f"{name}.json"


def seen(model: "Extractor | Recogniser", section: str) -> dict[str, object]:
    """A model's fingerprint, and all that it follows from."""
    checkpoint = None if model.checkpoint is None else str(model.checkpoint.absolute())
    return {"fingerprint": model.fingerprint, "checkpoint": checkpoint, "causes": _causes(section, checkpoint)}


def checkpoint_files(folder: Path | None) -> list[str]:
    """Names, sizes, times and places of a checkpoint's files: what changes when they do."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []
    found = [(path, path.stat()) for path in files]
    return [f"{path} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}" for path, s in found]


def _causes(section: str, checkpoint: str | None) -> list[str]:
    return [
        section,
        code_hash(Path(extractors.__file__).parent),
        *checkpoint_files(Path(checkpoint) if checkpoint else None),
    ]


_NUM_OTHER_CAUSES = 2
"""How many causes come before the checkpoint's files."""
