"""A folder of recordings with tables of labels: the Hugging Face audiofolder convention.

Reads every `metadata.csv`, `metadata.jsonl` or `metadata.parquet` in the folder and below it: one row per utterance, a
column `file_name` (relative to the table's own folder) and one column per label. `speaker`, `split` and `transcript`
mean what they say and are always text; `start_s` with `duration_s` or `end_s` cuts an utterance out of a longer file,
so that one file may have several rows. Every other column is a label: numeric if each of its values is a number that
can be kept as one (`corpora.tables.numeric`), else text. Empty cells are labels that are missing.

Tables need not have the same columns; a recording that two of them have is read from the one nearer to the root. Where
no table has a column `split`, folders called train, dev, test and the like divide the recordings.

A path leaves the folder neither by ".." nor by a symbolic link. With `absolute_paths: true`, absolute paths and links
to elsewhere are read (`corpora.paths`).

Knows nothing of audio formats: whether a file can be decoded is for the stage to find out.

Source: https://huggingface.co/docs/datasets/audio_dataset#audiofolder, and for the words that name a split
https://huggingface.co/docs/hub/datasets-file-names-and-splits
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

from strata.extractors.links import dangling
from strata.pipeline.corpora import tables
from strata.pipeline.corpora.contract import (
    AUDIO_SUFFIXES,
    MANIFEST_COLUMNS,
    SEGMENT_COLUMNS,
    CorpusError,
    Problem,
    Utterance,
)
from strata.pipeline.corpora.paths import Lookup, OutsideRoot, locate, slashed, spelled
from strata.pipeline.corpora.rooted import Found, Rooted, look_into
from strata.pipeline.progress import counted, say

TABLES = tuple(f"metadata{suffix}" for suffix in tables.FORMATS)
"""What a table is called."""
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "dev", "val"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""Split by the words in a folder's name that tell it."""

_TEXT_COLUMNS = frozenset({"speaker", "split", "transcript"})
_WORD_ENDS = re.compile(r"[-._ 0-9]+")
_STARTS = re.compile(r"(start|begin|onset|offset)(_?(s|sec|secs|seconds|ms|time|sample|frame))?")
_ENDS = re.compile(r"(end|stop|duration|dur|length)(_?(s|sec|secs|seconds|ms|time|sample|frame))?")
_ROUNDING_S = Decimal("0.001")  # by which a duration and an end may contradict each other


class Folder(Rooted):
    """`{adapter: folder, root: ../recordings}`."""

    adapter: Literal["folder"] = "folder"
    file_name: str | None = None
    """Column that names the recordings; by default `file_name`, or where that is missing the only one that ends in
    `_file_name`."""


@dataclass(frozen=True)
class _Source:
    """A table with what it takes to read its rows."""

    name: str
    """As seen from the root."""
    folder: Path
    table: tables.Table
    file_column: str

    def where(self, row: tables.Row) -> str:
        return f"{self.name} {'row' if self.name.endswith('.parquet') else 'line'} {row.line}"


class _BadRow(ValueError):
    """A row that cannot become an utterance; the message is the reason."""


def utterances(section: Folder, folder: Path) -> Iterator[Utterance | Problem]:
    """The rows of all tables, in their order, those of the root's own table first.

    An utterance is named by its file's path from the root (absolute where it lies elsewhere), extension included, so
    that no other row can change the name; a stretch of a file adds where it starts and how long it lasts, as in
    "talk.wav#1.5+2.0".

    Raises:
        CorpusError: there is no table, or its header or its encoding makes the only one unreadable.
    """
    found = look_into(section, folder)
    recordings = [path for path in found.files if path.suffix.lower() in AUDIO_SUFFIXES]
    lookup = Lookup(found.root, recordings, absolute_paths=section.absolute_paths)
    sources, problems = _sources(section, found)
    yield from problems
    labels = _Labels(sources, found.root)
    seen: dict[str, tuple[_Source, tables.Row, Path]] = {}
    there, listed, repeated = set(recordings), set(), []
    for source, row in ((each, row) for each in sources for row in each.table.rows):
        audio = None
        try:
            audio = _audio(lookup, source, row)
            listed.add(audio)
            utterance = _utterance(lookup.name(audio), audio, row, labels.of(source, row))
            first, line, path = seen.setdefault(utterance.name, (source, row, audio))
            if path != audio:
                raise _BadRow(f"its name is that of {first.where(line)} in another of Unicode's forms; rename one file")
            if first is not source:
                repeated.append(source.where(row))
                continue
            if line is not row:
                raise _BadRow(f"the same recording as in line {line.line}, which counts")
        except (_BadRow, OutsideRoot) as error:
            name, expected = _listed(section, found.root, source, row)
            listed.update(there.intersection([expected]))  # a link that leads nowhere, say
            yield Problem(name or f"{source.name}:{row.line}", f"{source.where(row)}: {error}", audio or expected)
            continue
        yield utterance
    if repeated:
        rows = counted(len(repeated), "row")
        say(f"{found.root}: {rows} of recordings that a table nearer to it has: {repeated[0]}, …")
    _mention_unlisted(found, sources, recordings, listed)


def _sources(section: Folder, found: Found) -> tuple[list[_Source], list[Problem]]:
    """The tables, those nearest to the root first, and a problem for each that cannot be used."""
    paths = [path for path in found.files if path.name in TABLES]
    if not paths:
        raise CorpusError(
            f"no metadata.csv in {found.root}, nor metadata.jsonl or metadata.parquet, there or below; write one with "
            "a column file_name and one per label"
        )
    paths.sort(key=lambda path: (len(path.parts), path))
    sources, problems, errors = [], [], []
    for path in paths:
        name = found.inside(path)
        try:
            if not os.path.isfile(path):  # a FIFO would be waited for
                raise CorpusError(f"{path} is no file that can be read")
            if beside := [other for other in paths if other.parent == path.parent and other != path]:
                raise CorpusError(f"{path} lies beside {beside[0].name}; keep one, for nothing says which counts")
            table = tables.read(path)
            sources.append(_Source(name, path.parent, table, _file_column(section, path, table)))
            if table.nested:
                say(f"{name}: left out {', '.join(sorted(table.nested))}; labels are text or numbers, no lists")
        except CorpusError as error:
            errors.append(error)
            problems.append(Problem(name, str(error).replace(str(path), name)))  # as seen from the root
    if not sources:
        raise errors[0]
    return sources, problems


def _file_column(section: Folder, path: Path, table: tables.Table) -> str:
    """The column that names the recordings, of a table that can be used."""
    wanted = section.file_name or "file_name"
    others = [column for column in table.columns if column.endswith("_file_name")]
    if wanted in table.columns:
        column = wanted
    elif section.file_name is None and len(others) == 1:
        column = others[0]
    elif others:
        raise CorpusError(
            f"{path} has no column {wanted}, but {' and '.join(others)}; write into `file_name` which one is meant"
        )
    else:
        raise CorpusError(f"{path} has no column {wanted}, only {', '.join(table.columns)}; columns end at commas")
    if taken := sorted(MANIFEST_COLUMNS.intersection(table.columns)):
        raise CorpusError(f"{path} has the column {taken[0]}, which the manifest fills in by itself; rename it")
    _check_segments(path, [each for each in table.columns if each != column])
    return column


def _check_segments(path: Path, columns: Sequence[str]) -> None:
    """Refuses columns that seem to cut utterances out of files and are none that are read: the files would stay whole.

    Raises:
        CorpusError: it has a start and an end or a duration, and one of them is called otherwise than here.
    """
    starts = [column for column in columns if _STARTS.fullmatch(column.lower())]
    ends = [column for column in columns if _ENDS.fullmatch(column.lower())]
    own = [column for column in (*starts, *ends) if column in SEGMENT_COLUMNS]
    if starts and ends and not ("start_s" in own and len(own) > 1):
        other = next(column for column in (*starts, *ends) if column not in own)
        raise CorpusError(
            f"{path} has the columns {starts[0]} and {ends[0]}: a stretch of a file is told by start_s and end_s, or "
            f"start_s and duration_s, in seconds; call {other} so, or rename it if it is a label"
        )


class _Labels:
    """The labels of rows, whose columns are of one kind in all tables."""

    def __init__(self, sources: Sequence[_Source], root: Path):
        self._root = root
        self._columns = [
            column
            for column in dict.fromkeys(column for source in sources for column in source.table.columns)
            if column not in SEGMENT_COLUMNS | {source.file_column for source in sources}
        ]
        self._numeric = {column for column in self._columns if self._is_numeric(column, sources)}
        self._folders = "split" not in self._columns
        if self._folders:
            rows = ((source, row) for source in sources for row in source.table.rows)
            told = {self._split(source, row) for source, row in rows} - {None}
            self._folders = len(told) > 1  # one alone divides nothing

    def of(self, source: _Source, row: tables.Row) -> dict[str, str | float | None]:
        """Label by column."""
        cells = {column: row.cells.get(column) or None for column in self._columns}
        labels = {column: float(cell) if cell and column in self._numeric else cell for column, cell in cells.items()}
        return {**labels, "split": self._split(source, row)} if self._folders else labels

    @staticmethod
    def _is_numeric(column: str, sources: Sequence[_Source]) -> bool:
        # A row with a cell too many has its values under the wrong columns, so it has no say.
        told = [
            (source.where(row), row.cells.get(column, ""))
            for source in sources
            for row in source.table.rows
            if not row.fault
        ]
        if column in _TEXT_COLUMNS or any(column in source.table.texts for source in sources):
            return False
        if odd := tables.no_numbers(told):
            where, cell = odd[0]
            say(f"{where}: {column} is {cell!r}, one of {len(odd)} among numbers; so the whole column is text")
        return tables.numeric(cell for _, cell in told)

    def _split(self, source: _Source, row: tables.Row) -> str | None:
        """What the folders around a recording say, the outermost first."""
        file = Path(slashed(row.cells.get(source.file_column, "")))
        folders = (*source.folder.relative_to(self._root).parts, *file.parts[:-1])
        words = (word for folder in folders for word in _WORD_ENDS.split(folder.lower()))
        return next((SPLITS[word] for word in words if word in SPLITS), None)


def _audio(lookup: Lookup, source: _Source, row: tables.Row) -> Path:
    """The file that a row names."""
    if row.fault:
        raise _BadRow(row.fault)
    cell = row.cells.get(source.file_column)
    if not cell:
        raise _BadRow(f"no {source.file_column}")
    audio = lookup.find(source.folder, cell)
    if audio is None:
        expected = source.folder / cell
        told = lookup.name(expected)  # as seen from the root: what is listed does not follow from the current folder
        if lost := dangling(expected):
            raise _BadRow(f"{told} is {lost}")
        if os.path.exists(expected) and not os.path.isdir(expected):
            raise _BadRow(f"not a file: {told} is a pipe, a device or the like; put a recording there")
        nearest = lookup.nearest(expected)
        raise _BadRow(f"no such file: {told}" + (f"; the nearest there is {nearest}" if nearest else ""))
    return audio


def _utterance(name: str, audio: Path, row: tables.Row, labels: Mapping[str, str | float | None]) -> Utterance:
    start, duration, end = (_seconds(row, column) for column in ("start_s", "duration_s", "end_s"))
    start = start or Decimal(0)
    if duration is not None and end is not None and abs(start + duration - end) > _ROUNDING_S:
        raise _BadRow(f"start_s {start}, duration_s {duration} and end_s {end} contradict each other")
    if duration is None and end is not None:
        if end <= start:
            raise _BadRow(f"end_s {end} is not after start_s {start}")
        duration = end - start  # of what is written: in binary, 0.3 - 0.1 is not 0.2
    if duration == 0:
        raise _BadRow("duration_s is 0")
    start_s, duration_s = float(start), None if duration is None else float(duration)
    if start_s or duration_s:
        name += f"#{start_s}" + (f"+{duration_s}" if duration_s else "")
    return Utterance(name, audio, labels, start_s, duration_s)


def _seconds(row: tables.Row, column: str) -> Decimal | None:
    cell = row.cells.get(column)
    if not cell:
        return None
    value = tables.number(cell)
    if value is None or value < 0:
        raise _BadRow(f"{column} is {cell!r}, not a number of seconds")
    return Decimal(cell)


def _listed(section: Folder, root: Path, source: _Source, row: tables.Row) -> tuple[str, Path | None]:
    """The name of a row that is bad: empty where it has none; and the path, unless that may not be read."""
    cell = row.cells.get(source.file_column)
    if not cell:
        return "", None
    inside = source.folder.relative_to(root).as_posix()
    try:
        path = locate(source.folder, cell, absolute_paths=section.absolute_paths)
    except OutsideRoot:
        path = None
    return spelled(cell if inside == "." or cell.startswith("/") else f"{inside}/{cell}"), path


def _mention_unlisted(found: Found, sources: Sequence[_Source], recordings: Sequence[Path], listed: set[Path]) -> None:
    """Says so if recordings lie in the folder that no table has: a row may have been forgotten."""
    unlisted = [path for path in recordings if path not in listed]
    if unlisted:
        # Links lead to one file by several names.
        elsewhere = {os.path.realpath(path) for path in listed.difference(recordings)}
        unlisted = [path for path in unlisted if os.path.realpath(path) not in elsewhere]
    if unlisted:
        where = sources[0].name if len(sources) == 1 else "the tables"
        first = found.inside(unlisted[0])
        say(f"not in {where} of {found.root} and left out: {counted(len(unlisted), 'recording')}, the first {first}")
