"""Whether anything has changed since all cells of an experiment were seen to be up to date; no stage of its own.

The full answer reads tables and labels, whose libraries take longer to import than `strata train` should take to say
that there is nothing to do. This one reads no table: it compares the code, params.yaml and the manifest by their bytes,
stores and results by their files' names, sizes and times. Whatever is not the same to the last of these is looked at in
full; so a change that changes nothing costs a second, and none is overlooked.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from strata.pipeline.files import code_hash, write_if_changed
from strata.pipeline.study.folder import Study

CODE = ("strata.extractors", "strata.pipeline", "strata.store", "strata.trainers")


def inputs(study: Study, name: str) -> str | None:
    """A hash of all that an experiment is made of; None where this is not for files alone to say.

    Texts that a recogniser made follow from its checkpoint, too, which only the full answer looks at.
    """
    if study.params.transcribe:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for package in CODE:
        (folder,) = find_spec(package).submodule_search_locations  # found, not imported
        digest.update(code_hash(Path(folder)).encode())
    views = {view for cell in study.params.cells(name).values() for view in cell.views}
    try:
        for file in (study.params_file, study.manifest):
            digest.update(hashlib.blake2b(file.read_bytes()).digest())
        lock = study.folder / "dvc.lock"  # rows that it lists and that are not here are pulled
        digest.update(lock.read_bytes() if lock.exists() else b"")
        for view in sorted(views):
            digest.update(json.dumps([view, *_files(study.store(view))]).encode())
    except (OSError, ValueError):  # told by the full answer, beside what is right
        return None
    return digest.hexdigest()


def line(study: Study, name: str, inputs: str | None) -> str | None:
    """What was said of an experiment when it was up to date, where it is still the same; else None."""
    try:
        found = json.loads(_note(study, name).read_text(encoding="utf-8"))
        same = inputs is not None and [inputs, *_files(study.results(name))] == found["state"]
        return found["line"] if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note(study: Study, name: str, inputs: str | None, line: str) -> None:
    """Keeps that an experiment is up to date, by what `inputs` said before it was looked at."""
    if inputs is not None:
        state = {"state": [inputs, *_files(study.results(name))], "line": line}
        write_if_changed(_note(study, name), json.dumps(state).encode())


def _note(study: Study, name: str) -> Path:
    return study.folder / ".strata" / "up-to-date" / f"{name}.json"


def _files(folder: Path) -> Iterator[list]:
    """Name, size and time of every file below a folder, locks left out."""
    for file in sorted(folder.rglob("*")):
        with suppress(FileNotFoundError):  # gone meanwhile: somebody is writing here, and the list is another one
            if file.is_file() and file.suffix != ".lock":
                found = file.stat()
                yield [file.relative_to(folder).as_posix(), found.st_size, found.st_mtime_ns]
