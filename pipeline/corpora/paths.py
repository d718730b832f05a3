"""Paths that a corpus's table names: below the corpus's root, unless its section says that they may lie elsewhere.

A table comes with a corpus, and who downloads one does not read it line by line. So what it names must lie below the
root, and so must what a symbolic link there leads to: a link comes with a corpus as easily as a row does. Both are
allowed together by `absolute_paths: true`, for tables of one's own and for folders of links to a shared disk (or into
the cache of DVC, git-annex or the Hugging Face hub). A path that climbs by ".." is never read.

Systems write one name in several ways: a Mac's file system takes letters and their accents apart (NFD) where tables
have them in one (NFC), and Windows divides folders by backslashes. So a path is looked for as it is written, then with
each of its names in any normal form, then both again with slashes.

Every adapter that takes paths from a table, and every root in params.yaml, asks here. Knows no table and no audio.
"""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from strata.pipeline.errors import nearest

_COMPARISONS = 100_000  # of names, when the nearest one is looked for: a second or two, however much is missing


class OutsideRoot(ValueError):
    """A path that may not be read; the message is the reason, fit for a failures table."""


def normal(text: str) -> str:
    """A text in the one normal form that labels and names have here, NFC."""
    return unicodedata.normalize("NFC", text)


def spelled(cell: str) -> str:
    """The path in one spelling: "./a.wav" is "a.wav"."""
    return normal(str(PurePosixPath(cell)))


def slashed(cell: str) -> str:
    """The path as it is written where slashes divide folders."""
    return cell.replace("\\", "/")


def locate(root: Path, cell: str, *, absolute_paths: bool = False) -> Path:
    """The path of a table's cell, relative ones below the root. Looks at no file.

    Backslashes and drives are understood on every system, so that a table means the same on each of them.

    Raises:
        OutsideRoot: the path climbs by "..", or is absolute where that is not allowed, or absolute in the manner of
            another system.
    """
    windows = PureWindowsPath(cell)
    if ".." in windows.parts:  # parts that slashes divide are among them
        raise OutsideRoot(f'{cell} lies outside the folder; paths with ".." are never read')
    path = Path(cell)
    if not (path.anchor or windows.root):  # "C:a.wav" has an anchor on Windows, and is a plain name elsewhere
        return root / path
    if not absolute_paths:
        raise OutsideRoot(f"{cell} lies outside the folder; absolute paths are read where absolute_paths is true")
    if not path.is_absolute():
        raise OutsideRoot(f"{cell} lies outside the folder; it is no absolute path on this machine")
    return path


def follow(root: Path, path: Path, *, absolute_paths: bool = False) -> None:
    """Looks where the links on the way to an existing file lead.

    Raises:
        OutsideRoot: to a file that is not below the root (or below what the root itself is a link to), where that is
            not allowed.
    """
    if absolute_paths:
        return
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(os.path.realpath(root)):
        raise OutsideRoot(f"a link leads outside the folder, to {real}; it is followed where absolute_paths is true")


class Folders:
    """What lies in folders, by the normal forms of names. Each folder is listed once, when it is first needed."""

    def __init__(self):
        self._names: dict[Path, dict[str, str]] = {}

    def names(self, folder: Path) -> dict[str, str]:
        """By normal form, the names in a folder; none where it cannot be listed."""
        if folder not in self._names:
            try:
                listed = sorted(os.listdir(folder), reverse=True)  # of names with one normal form the first counts
            except (OSError, ValueError):  # the latter: a name with a NUL, or one that no file system could have
                listed = []
            self._names[folder] = {normal(name): name for name in listed}
        return self._names[folder]

    def find(self, path: Path) -> Path | None:
        """The path as it is on disk, which may have some of its names in another normal form; None: not there."""
        if os.path.lexists(path):
            return path
        here = Path(path.anchor)
        for name in path.relative_to(here).parts:
            there = here / name
            if name != ".." and not os.path.lexists(there):
                actual = self.names(here).get(normal(name))
                if actual is None:
                    return None
                there = here / actual
            here = there
        return here if os.path.lexists(here) else None


def below(folder: Path, root: Path) -> Path:
    """A root of params.yaml, relative to the study's folder, as it is on disk; as it is written where it is not."""
    folders = Folders()
    for written in dict.fromkeys((root, Path(slashed(str(root))))):
        found = folders.find(folder / written.expanduser())
        if found is not None:
            return found
    return folder / root.expanduser()


class Lookup:
    """Finds what the tables of one corpus name."""

    def __init__(self, root: Path, recordings: Sequence[Path], *, absolute_paths: bool = False):
        """Takes the root, and the recordings below it: of these the nearest to a missing one is told."""
        self.root, self.absolute_paths = root, absolute_paths
        self._recordings, self._folders = recordings, Folders()
        self._comparisons = 0

    def find(self, folder: Path, cell: str) -> Path | None:
        """The path of a cell in a table that lies in a folder, as it is on disk; None: not there.

        Raises:
            OutsideRoot: it may not be read, or it is a link to what may not be.
        """
        for written in dict.fromkeys((cell, slashed(cell))):
            found = self._folders.find(locate(folder, written, absolute_paths=self.absolute_paths))
            if found is not None and os.path.isfile(found):  # unlike Path.is_file, it never raises
                follow(self.root, found, absolute_paths=self.absolute_paths)
                return found
        return None

    def name(self, path: Path) -> str:
        """What a file is called in a manifest: its path from the root, or all of it where it lies elsewhere."""
        return normal(path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path))

    def nearest(self, path: Path) -> str | None:
        """The recording, as seen from the root, whose path is most like one that is not there; None: none is.

        One of the same name in another folder comes first, then those in the same folder, then all others.
        """
        wanted = PurePosixPath(_alike(slashed(self.name(path))))
        return (
            self._closest(wanted, self._inside["name", wanted.name], cutoff=0.0)
            or self._closest(wanted, self._inside["folder", str(wanted.parent)])
            or self._closest(wanted, self._inside["root", ""])
        )

    @cached_property
    def _inside(self) -> dict[tuple[str, str], dict[str, str]]:
        """The recordings of a name, of a folder and of the root: each as it is compared → as it is told."""
        inside = defaultdict(dict)
        for recording in filter(os.path.isfile, self._recordings):  # of a link that leads nowhere there is no use
            told = os.fsencode(recording.relative_to(self.root)).decode("utf-8", "backslashreplace")
            compared = PurePosixPath(_alike(told))
            for key in (("name", compared.name), ("folder", str(compared.parent)), ("root", "")):
                inside[key][str(compared)] = told
        return inside

    def _closest(self, wanted: PurePosixPath, names: Mapping[str, str], cutoff: float = 0.6) -> str | None:
        if self._comparisons + len(names) > _COMPARISONS:
            return None
        self._comparisons += len(names)
        found = nearest(str(wanted), names, cutoff)
        return names[found] if found else None


def nearest_folder(path: Path, written: Path) -> str:
    """Words that name the folder beside a missing one whose name is most like it; empty where none is.

    Args:
        path: where the missing one should be.
        written: the same as params.yaml has it, which is how the other is named.
    """
    beside = {_alike(name): name for name in Folders().names(path.parent).values() if (path.parent / name).is_dir()}
    found = nearest(_alike(path.name), beside)
    return f", did you mean {str(written.parent / beside[found])!r}?" if found else ""


def _alike(name: str) -> str:
    """A name as people compare them: without letter case."""
    return normal(name).casefold()
