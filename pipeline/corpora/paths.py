"""Paths that a corpus's table names: below the corpus's root, unless its section says that they may lie elsewhere.

A table comes with a corpus, and who downloads one does not read it line by line. So what it names must lie below the
root, and so must what a symbolic link there leads to: a link comes with a corpus as easily as a row does. Both are
allowed together by `absolute_paths: true`, for tables of one's own and for folders of links to a shared disk (or into
the cache of DVC, git-annex or the Hugging Face hub). A path that climbs by ".." is never read.

Every adapter that takes paths from a table asks here. Knows no table and no audio.
"""

import os
from pathlib import Path, PurePosixPath, PureWindowsPath


class OutsideRoot(ValueError):
    """A path that may not be read; the message is the reason, fit for a failures table."""


def spelled(cell: str) -> str:
    """The path in one spelling: "./a.wav" is "a.wav"."""
    return str(PurePosixPath(cell))


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
