"""A model's fingerprint, without loading its libraries where nothing has changed since it was last asked for.

Making an extractor takes seconds (PyTorch, hashes of gigabytes), and an extraction that has nothing to do needs only
its fingerprint. `.strata/fingerprints/<view>.json` keeps it, with all that it follows from: the section of params, the
code of `extractors`, and sizes and times of the checkpoint's files. Whoever computes a block makes the extractor itself
and compares.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import extractors
from pipeline.extract import work
from pipeline.extract.runners import Runner
from pipeline.extract.work import Job
from pipeline.files import write_if_changed

if TYPE_CHECKING:
    from extractors import Extractor
    from extractors.transformers.recogniser import Recogniser


def fingerprint(job: Job, view: str, crew: Runner) -> Mapping[str, object]:
    """The fingerprint of a view's values, from memory, or from whoever computes them.

    Raises:
        ViewError: the view cannot be loaded.
    """
    return remembered(Path(job.folder), view, job.section, lambda: crew.ask(look))


def remembered(folder: Path, name: str, section: str, look: Callable[[], Mapping[str, object]]) -> Mapping[str, object]:
    """A fingerprint from memory, or from the model itself.

    Args:
        folder: the study's.
        name: of the memory, below `.strata/fingerprints`.
        section: of params, as JSON.
        look: makes the model and tells what it is, see `seen`.
    """
    memory = folder / ".strata" / "fingerprints" / f"{name}.json"
    try:
        known = json.loads(memory.read_text())
        if known["causes"] == _causes(section, known["checkpoint"]):
            return known["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or not to be trusted: it only saves time
    found = look()
    write_if_changed(memory, json.dumps(found, indent=1).encode())
    return found["fingerprint"]


def look(job: Job) -> dict[str, object]:
    """Makes the extractor: its fingerprint, and all that it follows from."""
    return seen(work.extractor(job), job.section)


def seen(model: "Extractor | Recogniser", section: str) -> dict[str, object]:
    """A model's fingerprint, and all that it follows from."""
    checkpoint = None if model.checkpoint is None else str(model.checkpoint.absolute())
    return {"fingerprint": model.fingerprint, "checkpoint": checkpoint, "causes": _causes(section, checkpoint)}


def _causes(section: str, checkpoint: str | None) -> list[str]:
    return [section, _code(), *work.checkpoint_files(Path(checkpoint) if checkpoint else None)]


@cache
def _code() -> str:
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(Path(extractors.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
