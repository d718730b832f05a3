"""A table, and how a number is written in one.

One `Table` serves the page and the terminal: the page's template draws it as HTML, `plain` as text. Knows nothing of
what the numbers mean.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

TALL = 16
"""Rows up to which a table stands on the page in its whole height."""


@dataclass(frozen=True)
class Column:
    """A column's heading."""

    title: str
    small: str = ""
    """The heading's second line."""
    numeric: bool = False
    lowest_first: bool = False
    """Whether the lowest number is the one that a reader looks for, as with errors."""
    above: str = ""
    """A heading over this one; neighbours of the same one share it."""
    above_small: str = ""


@dataclass(frozen=True)
class Span:
    """A heading over several columns; without a title, the column's own heading reaches up into its place."""

    title: str
    small: str
    place: int
    """Of the first of them."""
    width: int


@dataclass(frozen=True)
class Cell:
    """One field of a table."""

    text: str
    best: bool = False
    """Whether it is the best of its column."""
    mark: str = ""
    """Points to a note below the table."""
    small: str = ""
    """A second line in small print; in a terminal behind the row's heading, and nowhere else."""
    value: float | None = None
    """What the column is sorted by where the text does not tell, as with a duration in a unit of its own."""
    link: str = ""
    """The cell of a grid whose details it opens, by name."""


@dataclass(frozen=True)
class Table:
    """A captioned table; the first cell of each row is the row's heading."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    foot: tuple[tuple[Cell, ...], ...] = ()
    """Rows below the rule: what the others are held against."""
    notes: tuple[str, ...] = ()

    @property
    def spans(self) -> list[Span]:
        """The upper row of headings; empty where no column has one."""
        if not any(column.above for column in self.columns):
            return []
        spans: list[Span] = []
        for place, column in enumerate(self.columns):
            heading = (column.above, column.above_small)
            if column.above and spans and heading == (spans[-1].title, spans[-1].small):
                spans[-1] = replace(spans[-1], width=spans[-1].width + 1)
            else:
                spans.append(Span(*heading, place, 1))
        return spans

    @property
    def is_tall(self) -> bool:
        """Whether it is taller than a screen, so that it scrolls below its own headings."""
        return len(self.rows) > TALL


def is_number(value: Any) -> bool:
    """Whether a value read from JSON is a number that can be compared."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, decimals: int = 2) -> str:
    """A number for a table; a dash where there is none."""
    # Adding zero turns the negative zero that rounding leaves into zero.
    return f"{round(value, decimals) + 0.0:,.{decimals}f}" if is_number(value) else "–"


def duration(seconds: Any) -> str:
    """A duration in the unit that suits it."""
    if not is_number(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:,.2f} h"


def size(num_bytes: Any) -> str:
    """A number of bytes in the unit that suits it."""
    if not is_number(num_bytes):
        return "–"
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:,.1f} {unit}"
    return f"{num_bytes:.0f} B"


def millions(count: Any) -> str:
    """A number of parameters in millions, to three digits at least."""
    if not is_number(count):
        return "–"
    return f"{count / 1e6:,.0f} M" if count >= 1e8 else f"{count / 1e6:.3g} M"


def _words(table: Table, row: Sequence[Cell]) -> tuple[str, ...]:
    return tuple(cell.text for cell, column in zip(row, table.columns, strict=True) if not column.numeric)


def plain(table: Table) -> str:
    """The table as aligned text; `*` marks the best of a column."""
    lines = [[" ".join(part for part in (c.above, c.above_small, c.title, c.small) if part) for c in table.columns]]
    headings = Counter(_words(table, row) for row in table.rows)
    for row in (*table.rows, *table.foot):
        marks = ["*" * cell.best + cell.mark for cell in row]
        # A space where there is no mark keeps the digits of a column below each other.
        blanks = [" " if column.numeric else "" for column in table.columns]
        texts = [cell.text for cell in row]
        if row[0].small and headings[_words(table, row)] > 1:  # what tells rows of one heading apart
            texts[0] += f" ({row[0].small})"
        lines.append([text + (mark or blank) for text, mark, blank in zip(texts, marks, blanks, strict=True)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def line(cells: list[str]) -> str:
        aligned = zip(cells, widths, table.columns, strict=True)
        return "  ".join(c.rjust(w) if column.numeric else c.ljust(w) for c, w, column in aligned).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    head, *body = map(line, lines)
    body, foot = body[: len(table.rows)], body[len(table.rows) :]
    key = ["* the best of its column."] if any(cell.best for row in table.rows for cell in row) else []
    return "\n".join([table.caption, rule, head, rule, *body, *([rule, *foot] if foot else []), *key, *table.notes])
