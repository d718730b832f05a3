"""Corpora that lie below a folder: its options, and what is found there.

Feeds every adapter of found recordings, whether their labels stand in tables (`folder.py`) or in names (`tree.py`).
Decodes no audio and knows no corpus.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from strata.extractors.links import dangling
from strata.pipeline.corpora.contract import CorpusError, CorpusSection, Problem
from strata.pipeline.corpora.paths import OutsideRoot, below, follow, nearest_folder


class Rooted(CorpusSection):
    """Options of every corpus that lies below a folder."""

    root: Path
    """The folder that holds the corpus, relative to the study's folder."""
    absolute_paths: bool = False
    """Whether a table may name absolute paths, and links may lead outside the root."""

    def watched(self, folder: Path) -> Path:
        """The root, as it is on disk."""
        return below(folder, self.root)


@dataclass
class Found:
    """What lies below a root."""

    root: Path
    files: list[Path] = field(default_factory=list)
    """All that are not hidden, sorted."""
    problems: list[Problem] = field(default_factory=list)
    """What may not or cannot be looked into."""

    def inside(self, path: Path) -> str:
        """A path as seen from the root, fit for a table: bytes that are no UTF-8 are written out."""
        return os.fsencode(path.relative_to(self.root)).decode("utf-8", "backslashreplace")


def look_into(section: Rooted, folder: Path) -> Found:
    """All files below the section's root, the folders that links lead to included.

    Raises:
        CorpusError: there is no such folder.
    """
    root = section.watched(folder)
    if not root.is_dir():
        if lost := dangling(root):
            raise CorpusError(f"no such folder: {root}, {lost}")
        hint = nearest_folder(root, Path(section.root))
        raise CorpusError(f"no such folder: {root}{hint}; `root` is relative to the folder of params.yaml")
    found = Found(root)
    # A link may lead back to a folder above it, or to one that is listed anyway: each real folder counts once.
    pending, seen = [root], {os.path.realpath(root)}
    while pending:
        directory = pending.pop()
        try:
            names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
        except OSError as error:
            found.problems.append(Problem(found.inside(directory), f"cannot be listed: {error.strerror}"))
            continue
        for path in (directory / name for name in names):
            if not os.path.isdir(path):
                found.files.append(path)
            elif (real := os.path.realpath(path)) not in seen:
                try:
                    follow(root, path, absolute_paths=section.absolute_paths)
                except OutsideRoot as error:
                    found.problems.append(Problem(found.inside(path), str(error)))
                else:
                    seen.add(real)
                    pending.append(path)
    found.files.sort()
    return found
