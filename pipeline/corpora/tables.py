"""Tables of recordings: `metadata.csv`, `metadata.jsonl` and `metadata.parquet`, each read into columns of cells.

A cell is the text that stands there, so that every digit is kept, whatever the format; empty: nothing. What of it is a
number is decided over a whole column (`numeric`), by the text alone, except that JSON and Parquet can say of a text
that it is one. Knows no audio, no paths and no meaning of any column.

Source of the formats: https://huggingface.co/docs/datasets/audio_dataset#audiofolder
"""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from strata.pipeline.corpora.contract import CorpusError
from strata.pipeline.corpora.paths import normal

# Stricter than float(), which takes "nan", "inf" and "1_000" for numbers.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9]")
_INDEX = re.compile(r"__index_level_[0-9]+__")  # of a data frame: the number of the row


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    line: int
    """Where it stands, counted from 1; in CSV the line on which it ends."""
    cells: Mapping[str, str]
    """Cell by column; what is left out is empty."""
    fault: str = ""
    """Why it cannot be used, and has no say in what its columns hold; empty: it can."""


@dataclass(frozen=True)
class Table:
    """What a file of rows holds."""

    columns: Sequence[str]
    rows: Sequence[Row]
    texts: frozenset[str] = frozenset()
    """Columns of which the file itself says that they are text."""
    nested: frozenset[str] = frozenset()
    """Columns left out of `columns`, for they hold lists or other things that are no labels."""


def read(path: Path) -> Table:
    """A table, by its file's extension.

    Raises:
        CorpusError: it cannot be read as a whole.
    """
    try:
        table = FORMATS[path.suffix.lower()](path)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error
    if not table.rows:
        what = "a header and no rows" if table.columns else "no header"
        raise CorpusError(f"{path} has {what}; list the recordings in it")
    if "" in table.columns:
        raise CorpusError(f"{path}: column {list(table.columns).index('') + 1} has no name; name it or delete it")
    if repeated := [column for column, count in Counter(table.columns).items() if count > 1]:
        raise CorpusError(f"{path} has the column {repeated[0]} more than once; rename one")
    return table


def number(cell: str) -> float | None:
    """A number that is written in digits; None: it is none, or one too great or too small for a float64."""
    digits = _NUMBER.fullmatch(cell)
    if not digits:
        return None
    value = float(cell)
    vanished = value == 0 and any(digit in "123456789" for digit in digits[1])
    return value if math.isfinite(value) and not vanished else None


def numeric(cells: Iterable[str]) -> bool:
    """Whether a column is one of numbers, so that each cell can be taken for its float64 and none is lost.

    It is text if one cell is no finite number, or has a leading zero ("007"), for such numbers are names. It is text
    also if float64 would not keep its digits: a whole number that has no float64 of its own, as account numbers
    beyond 2^53, or different numbers that share one.
    """
    values = {cell: number(cell) for cell in cells if cell}
    if not values or any(value is None or _LEADING_ZERO.match(cell) for cell, value in values.items()):
        return False
    kept = {Decimal(cell): Decimal(value) for cell, value in values.items()}
    if any(written != value and written == written.to_integral_value() for written, value in kept.items()):
        return False
    return len(set(kept.values())) == len(kept)


def no_numbers(rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The cells, each with where it stands, that alone keep a column from being one of numbers, as "inf" and "1e999".

    None where the column is one, or where it has words too.
    """
    words = {"nan", "inf", "infinity", "na", "n/a", "none", "null"}
    cells = [(where, cell) for where, cell in rows if cell]
    others = [(where, cell) for where, cell in cells if number(cell) is None]
    odd = all(cell.lstrip("+-").lower() in words or _NUMBER.fullmatch(cell) for _, cell in others)
    return others if odd and len(others) < len(cells) else []


def _csv(path: Path) -> Table:
    try:
        # utf-8-sig drops the byte-order mark with which spreadsheets begin a file; strict refuses a quote left open.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error
    except csv.Error as error:
        raise CorpusError(f"{path} line {reader.line_num}: {error}") from error
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if not rows:
        return Table([], [])
    header = [normal(column) for column in rows.pop(0)[1]]
    return Table(header, [_csv_row(header, line, cells) for line, cells in rows])


def _csv_row(header: Sequence[str], line: int, cells: Sequence[str]) -> Row:
    # A row that ends early leaves its last labels empty, as spreadsheets and hand-written tables do.
    row = dict(zip(header, [*cells, *[""] * (len(header) - len(cells))], strict=False))
    if len(cells) <= len(header):
        return Row(line, row)
    return Row(line, row, f"{len(cells)} cells under {len(header)} columns; a comma inside a cell needs quotes")


class _Digits(str):
    """A number as JSON writes it."""


class _Nested(ValueError):
    """A value that is no cell."""


def _jsonl(path: Path) -> Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error
    rows = [
        _json_row(line, content.strip())
        for line, content in enumerate(text.split("\n"), start=1)  # `splitlines` would also end lines within texts
        if content.strip()
    ]
    if rows and not any(values for _, values, _ in rows):
        raise CorpusError(f"{path} line {rows[0][0]}: {rows[0][2] or 'an object without columns'}")
    return _typed(rows)


def _json_row(line: int, content: str) -> tuple[int, dict[str, object], str]:
    """Where it stands, value by column, and why it cannot be used."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"{twice[0]!r} stands there twice")
        return dict(pairs)

    try:
        content.encode()
        values = json.loads(
            content, parse_int=_Digits, parse_float=_Digits, parse_constant=_Digits, object_pairs_hook=unique
        )
        json.dumps(values, ensure_ascii=False).encode()  # escapes can write what is no text
    except (ValueError, RecursionError) as error:
        return line, {}, f"expected one JSON object in a line, found {content[:30]!r}… ({error})"
    if not isinstance(values, dict):
        return line, {}, f"expected one JSON object in a line, found {content[:30]!r}"
    return line, {normal(name.strip()): value for name, value in values.items()}, ""


def _parquet(path: Path) -> Table:
    import pyarrow
    from pyarrow import parquet

    try:
        content = parquet.ParquetFile(path).read()
        names = [normal(name.strip()) for name in content.column_names]
        columns = [column.to_pylist() for column in content.columns]
    except (pyarrow.ArrowException, ValueError) as error:
        raise CorpusError(f"{path} is no Parquet file that can be read ({str(error).splitlines()[0]})") from error
    kept = [index for index, name in enumerate(names) if not _INDEX.fullmatch(name)]
    names, columns = [names[index] for index in kept], [columns[index] for index in kept]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise CorpusError(f"{path} has the column {repeated[0]} more than once; rename one")
    rows = zip(*columns, strict=True)
    return _typed([(line, dict(zip(names, values, strict=True)), "") for line, values in enumerate(rows, start=1)])


def _typed(rows: Sequence[tuple[int, Mapping[str, object], str]]) -> Table:
    """A table of values that have types."""
    columns = list(dict.fromkeys(name for _, values, _ in rows for name in values))
    texts, nested, cells = set(), set(), []
    for line, values, fault in rows:
        row = {}
        for name, value in values.items():
            try:
                row[name] = _cell(value)
            except _Nested:
                nested.add(name)
            if isinstance(value, str) and not isinstance(value, _Digits) and row[name]:
                texts.add(name)
        cells.append(Row(line, row, fault))
    return Table([name for name in columns if name not in nested], cells, frozenset(texts), frozenset(nested))


def _cell(value: object) -> str:
    """The text of a typed value, with every digit; empty where there is none."""
    if isinstance(value, _Digits):
        return "" if value == "NaN" else str(value)
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "" if math.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if hasattr(value, "isoformat"):  # a date, a time
        return value.isoformat()
    raise _Nested


def _not_utf8(path: Path, error: UnicodeDecodeError) -> CorpusError:
    return CorpusError(f"{path} is not UTF-8 (at byte {error.start}); save it as UTF-8")


FORMATS: Mapping[str, Callable[[Path], Table]] = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
"""How a table is read, by its extension."""
