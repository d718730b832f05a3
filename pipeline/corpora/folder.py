"""A folder of recordings with a table of labels: the Hugging Face audiofolder convention.

Reads `metadata.csv` in the folder: UTF-8, commas, one row per utterance, a column `file_name` (relative to the folder)
and one column per label. `speaker`, `split` and `transcript` mean what they say and are always text; `start_s` and
`duration_s` cut an utterance out of a longer file, so that one file may have several rows. Every other column is a
label: numeric if each of its values is a number, else text. One value with a leading zero, as in "007", makes a column
text, for such numbers are names. Empty cells are labels that are missing.

A path leaves the folder neither by ".." nor by a symbolic link. With `absolute_paths: true`, absolute paths and links
to elsewhere are read (`pipeline.corpora.paths`); DVC then watches the folder alone and not what lies elsewhere.

Knows nothing of audio formats: whether a file can be decoded is for the stage to find out.

Source: https://huggingface.co/docs/datasets/audio_dataset#audiofolder
"""

import csv
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pipeline.corpora.contract import AUDIO_SUFFIXES, MANIFEST_COLUMNS, CorpusError, Problem, Section, Utterance
from pipeline.corpora.paths import OutsideRoot, follow, locate, spelled
from pipeline.progress import say

_TEXT_COLUMNS = frozenset({"speaker", "split", "transcript"})
_NO_LABELS = frozenset({"file_name", "start_s", "duration_s"})
# Stricter than float(), which takes "nan", "inf" and "1_000" for numbers.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9]")


class Folder(Section):
    """`{adapter: folder, root: ../recordings}`."""

    adapter: Literal["folder"] = "folder"
    root: Path
    """The folder with `metadata.csv`, relative to the study's folder."""
    absolute_paths: bool = False
    """Whether `file_name` may be an absolute path, or a link that leads outside the root."""

    def watched(self, folder: Path) -> Path:
        """The root."""
        return folder / self.root.expanduser()


def utterances(section: Folder, folder: Path) -> Iterator[Utterance | Problem]:
    """The rows of `metadata.csv`, in its order.

    An utterance is named by its `file_name` (absolute where that is), extension included, so that no other row can
    change the name; a stretch of a file adds where it starts and how long it lasts, as in "talk.wav#1.5+2.0".

    Raises:
        CorpusError: there is no `metadata.csv`, or its header or its encoding makes the whole table unreadable.
    """
    root = section.watched(folder)
    table = root / "metadata.csv"
    header, rows = _read(table)
    # A row with a cell too many has its values under the wrong columns, so it has no say.
    aligned = [cells for _, cells in rows if len(cells) <= len(header)]
    numeric = {
        column
        for index, column in enumerate(header)
        if column not in _TEXT_COLUMNS and _is_numeric([cells[index] for cells in aligned if index < len(cells)])
    }
    seen: dict[str, int] = {}
    for line, cells in rows:
        try:
            utterance = _utterance(root, header, cells, numeric, section.absolute_paths)
            if utterance.name in seen:
                raise _BadRow(f"the same recording as in line {seen[utterance.name]}, which counts")
        except (_BadRow, OutsideRoot) as error:
            name, audio = _listed(root, header, cells, section.absolute_paths)
            yield Problem(name or f"metadata.csv:{line}", f"metadata.csv line {line}: {error}", audio)
            continue
        seen[utterance.name] = line
        yield utterance
    listed = (_listed(root, header, cells, section.absolute_paths)[1] for _, cells in rows)
    _mention_unlisted(root, {Path(os.path.abspath(audio)) for audio in listed if audio is not None})


def _mention_unlisted(root: Path, listed: set[Path]) -> None:
    """Says so if recordings lie in the folder that the table does not have: a row may have been forgotten."""
    found = (Path(os.path.abspath(path)) for path in root.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    unlisted = sorted(set(found) - listed)
    if unlisted:
        say(f"not in metadata.csv of {root} and left out: {len(unlisted)} recordings, the first {unlisted[0].name}")


class _BadRow(ValueError):
    """A row that cannot become an utterance; the message is the reason."""


def _read(table: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Column names, and each row that is not blank with its line number and its stripped cells."""
    if not table.parent.is_dir():
        raise CorpusError(f"no such folder: {table.parent}; `root` is relative to the folder of params.yaml")
    if not table.is_file():
        raise CorpusError(f"no metadata.csv in {table.parent}; write one with a column file_name and one per label")
    try:
        # utf-8-sig drops the byte-order mark with which spreadsheets begin a file; strict refuses a quote left open.
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except UnicodeDecodeError as error:
        raise CorpusError(f"{table} is not UTF-8 (at byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise CorpusError(f"{table} line {reader.line_num}: {error}") from error
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if len(rows) < 2:
        raise CorpusError(f"{table} has {'a header and no rows' if rows else 'no header'}; list the recordings in it")
    _, header = rows.pop(0)
    _check_header(table, header)
    return header, rows


def _check_header(table: Path, header: Sequence[str]) -> None:
    if "file_name" not in header:
        raise CorpusError(f"{table} has no column file_name, only {', '.join(header)}; columns end at commas")
    if "" in header:
        raise CorpusError(f"{table}: column {header.index('') + 1} has no name; name it or delete it")
    if repeated := [column for column, count in Counter(header).items() if count > 1]:
        raise CorpusError(f"{table} has the column {repeated[0]} more than once; rename one")
    if taken := sorted(MANIFEST_COLUMNS.intersection(header)):
        raise CorpusError(f"{table} has the column {taken[0]}, which the manifest fills in by itself; rename it")


def _is_numeric(cells: Sequence[str]) -> bool:
    values = [cell for cell in cells if cell]
    return bool(values) and all(_number(value) is not None and not _LEADING_ZERO.match(value) for value in values)


def _number(cell: str) -> float | None:
    value = float(cell) if _NUMBER.fullmatch(cell) else math.inf
    return value if math.isfinite(value) else None


def _utterance(
    root: Path, header: Sequence[str], cells: Sequence[str], numeric: set[str], absolute_paths: bool
) -> Utterance:
    if len(cells) > len(header):
        raise _BadRow(f"{len(cells)} cells under {len(header)} columns; a comma inside a cell needs quotes")
    # A row that ends early leaves its last labels empty, as spreadsheets and hand-written tables do.
    row = dict(zip(header, [*cells, *[""] * (len(header) - len(cells))], strict=True))
    if not row["file_name"]:
        raise _BadRow("no file_name")
    name = spelled(row["file_name"])
    audio = locate(root, row["file_name"], absolute_paths=absolute_paths)
    if not os.path.isfile(audio):  # unlike Path.is_file, it never raises, whatever the table names
        raise _BadRow(f"no such file: {audio}")
    follow(root, audio, absolute_paths=absolute_paths)
    start_s, duration_s = _seconds(row, "start_s") or 0.0, _seconds(row, "duration_s")
    if duration_s == 0:
        raise _BadRow("duration_s is 0")
    if start_s or duration_s:
        name += f"#{start_s}" + (f"+{duration_s}" if duration_s else "")
    labels = {
        column: None if not cell else float(cell) if column in numeric else cell
        for column, cell in row.items()
        if column not in _NO_LABELS
    }
    return Utterance(name, audio, labels, start_s, duration_s)


def _listed(root: Path, header: Sequence[str], cells: Sequence[str], absolute_paths: bool) -> tuple[str, Path | None]:
    """The name of a row, which may be bad: empty where it has none; and the path, unless that may not be read."""
    index = header.index("file_name")
    cell = cells[index] if index < len(cells) else ""
    try:
        return (spelled(cell), locate(root, cell, absolute_paths=absolute_paths)) if cell else ("", None)
    except OutsideRoot:
        return spelled(cell), None


def _seconds(row: dict[str, str], column: str) -> float | None:
    cell = row.get(column, "")
    if not cell:
        return None
    value = _number(cell)
    if value is None or value < 0:
        raise _BadRow(f"{column} is {cell!r}, not a number of seconds")
    return value
