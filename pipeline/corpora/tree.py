"""Corpora whose labels stand in the names of their files: finds the recordings below a root, in any layout.

Copies of such a corpus differ in their folders and agree in the names of the recordings. So every folder below the
root is looked into, a recording is known by its name alone, without folder and extension, and an adapter says what a
name means. Where names repeat from folder to folder, the innermost folders are part of them (`read_paths`). What
begins with a dot (`._a.wav`, `.DS_Store`, `.git`) is passed over.

- One recording in several formats, as in a checkout with WAV and MP3, counts once: the one that lost nothing.
- A link that leads outside the root is a problem unless `absolute_paths` is true (`corpora.paths`).
- A name with a code that the corpus does not publish is none of the corpus's: a problem, and no guess.
- A table that is not there, cannot be read or contradicts itself costs the labels in question, never the recordings,
  and a line says so.

Feeds the adapters of published corpora, such as `crema_d.py` and `timit.py`. Knows no corpus and decodes no audio.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from strata.extractors.links import dangling
from strata.pipeline.corpora.contract import AUDIO_SUFFIXES, CorpusError, Problem, Utterance
from strata.pipeline.corpora.paths import OutsideRoot, follow, normal
from strata.pipeline.corpora.rooted import Found, Rooted
from strata.pipeline.progress import say

_POINTER = b"version https://git-lfs"
_POINTER_BYTES = 1024  # Git LFS promises that its pointers are smaller
_LINE_END = re.compile(r"\r\n|\r|\n")

Labels = Mapping[str, str | float | None]
"""Label by column; None: not labelled."""
Row = TypeVar("Row")


class Tree(Rooted):
    """Options of every corpus whose labels stand in the names of its files."""


class Unusable(ValueError):
    """A file that is no recording of the corpus, or cannot be read; the message is the reason, for a failures table."""


def code(table: Mapping[str, str | None], what: str, key: str) -> str | None:
    """What a code in a name stands for.

    Raises:
        Unusable: the corpus publishes no such code.
    """
    if key not in table:
        raise Unusable(f"unknown {what} {key!r}; the corpus has {', '.join(table)}")
    return table[key]


def read(
    section: Tree, found: Found, labels: Callable[[str], Labels], example: str, source: str
) -> list[Utterance | Problem]:
    """An utterance for every name, and a problem for all else that has an audio file's extension.

    Args:
        section: says whether links may lead outside.
        found: what lies below its root.
        labels: from the name of a recording, without its extension, to its labels; raises Unusable.
        example: a name as it should be.
        source: where the corpus can be had.

    Raises:
        CorpusError: there is no usable recording.
    """
    return read_paths(section, found, lambda path: (path.stem, labels(path.stem)), example, source)


def read_paths(
    section: Tree, found: Found, meaning: Callable[[Path], tuple[str, Labels]], example: str, source: str
) -> list[Utterance | Problem]:
    """The same for corpora whose recordings are known by their folders too.

    Args:
        section: says whether links may lead outside.
        found: what lies below its root.
        meaning: from a file to the name of the recording in it and its labels; raises Unusable. Files of one name are
            one recording.
        example: a name as it should be.
        source: where the corpus can be had.

    Raises:
        CorpusError: there is no usable recording.
    """
    recordings = [path for path in found.files if path.suffix.lower() in AUDIO_SUFFIXES]
    recordings.sort(
        key=lambda path: AUDIO_SUFFIXES.index(path.suffix.lower())
    )  # stable: else in the order of the paths
    items, counted, other_formats = [*found.problems], {}, []
    for path in recordings:
        where = found.inside(path)
        try:
            name, labels = meaning(path)
            name = normal(name)
            first = counted.get(name)
            if first is not None and first.suffix.lower() != path.suffix.lower():
                other_formats.append(where)
                continue
            if first is not None:
                raise Unusable(f"the same recording as {found.inside(first)}, which counts")
            check(section, found.root, path)
            counted[name] = path
        except (Unusable, OutsideRoot) as error:
            told = isinstance(error, Unusable) and _is_text(path)
            items.append(Problem(where, str(error), path if told else None))
        else:
            items.append(Utterance(name, path, labels))
    if not any(isinstance(item, Utterance) for item in items):
        first = f", the first {items[0].name} ({items[0].reason})" if items else ""
        raise CorpusError(
            f"no usable recording under {found.root}: expected files such as {example}, found "
            f"{len(recordings)} with an audio file's extension{first}; let `root` lead to a copy of {source}"
        )
    if other_formats:
        say(f"{found.root}: left out {len(other_formats)} that are there in another format too: {other_formats[0]}, …")
    return sorted(items, key=lambda item: item.name)


def innermost(path: Path, count: int) -> tuple[str, ...]:
    """The names of the folders around a file and its own, `count` together; the root itself may be among them.

    Where there are not so many, the first ones are empty.
    """
    return (("",) * count + path.absolute().parts)[-count:]


def lines(section: Tree, found: Found, path: Path) -> list[str]:
    """A text file's lines, without their ends.

    Old corpora are older than UTF-8: what is none is read as Windows's Western encoding, in which every file has a
    meaning.

    Raises:
        Unusable: the file cannot be read, or a link to it leads outside the root.
    """
    try:
        follow(found.root, path, absolute_paths=section.absolute_paths)
        content = path.read_bytes()
    except OutsideRoot as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    return _LINE_END.split(text)  # `splitlines` would also end lines at characters that texts may hold


def table(section: Tree, found: Found, names: tuple[str, ...], wanted: str) -> list[str]:
    """The lines of a table, the one nearest to the root if there are several; none where it cannot be used.

    Args:
        section: says whether links may lead outside.
        found: what lies below its root.
        names: what the table may be called, in any letter case.
        wanted: what is missing without it and where to get it: for the line that says so.
    """
    called = {name.lower() for name in names}
    tables = [path for path in found.files if path.name.lower() in called]
    if not tables:
        say(f"no {names[0]} under {found.root}: {wanted}")
        return []
    nearest = min(tables, key=lambda path: (len(path.parts), path))
    try:
        rows = lines(section, found, nearest)
    except Unusable as error:
        say(f"{nearest} cannot be used ({error}): {wanted}")
        return []
    if not any(row.strip() for row in rows):
        say(f"{nearest} is empty: {wanted}")
        return []
    return rows


def agreed(rows: Iterable[tuple[str, Row]], where: str) -> dict[str, Row]:
    """What a table's rows say of each name; those of whom they say different things are left out, which is told."""
    said: dict[str, set[Row]] = {}
    for name, row in rows:
        said.setdefault(name, set()).add(row)
    if doubtful := sorted(name for name, each in said.items() if len(each) > 1):
        say(f"{where} contradicts itself about {len(doubtful)}, the first {doubtful[0]}: they count as not listed")
    return {name: each.pop() for name, each in said.items() if len(each) == 1}


def mention_unknown(
    names: set[str], known: set[str], table: str, what: str = "speakers", lacking: str = "no age and no gender"
) -> None:
    """Says whom a table does not have, so that labels of theirs are missing.

    Args:
        names: who is there.
        known: whom the table has.
        table: what it is called.
        what: what the names are names of.
        lacking: the labels that are missing.
    """
    if unknown := sorted(names - known):
        say(f"not in {table}: {len(unknown)} {what}, the first {unknown[0]}; they have {lacking}")


def check(section: Tree, root: Path, path: Path) -> None:
    """Looks whether a file is there and may be read, and is not merely what Git LFS leaves in its place.

    Raises:
        Unusable: it is not, or its path cannot be written into a table.
        OutsideRoot: it is a link to what may not be read.
    """
    if not os.path.isfile(path):
        raise Unusable(dangling(path) or "not a file, but a pipe, a device or the like; put a recording there")
    follow(root, path, absolute_paths=section.absolute_paths)
    if not _is_text(path):
        raise Unusable("its path is not UTF-8, which the manifest is; rename the folder")
    try:
        if path.stat().st_size < _POINTER_BYTES and path.read_bytes().startswith(_POINTER):
            raise Unusable("a pointer of Git LFS, not the recording; run `git lfs pull` in the checkout")
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror}") from error


def _is_text(path: Path) -> bool:
    """Whether a path can be written into a table: file systems know names that are no UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
