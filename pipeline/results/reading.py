"""How the report reads a file: what is missing or broken becomes a `Gap`, never an error.

Knows nothing of what the files hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""What a file that is not what it should be makes of a reader; Arrow's errors are among these."""


@dataclass(frozen=True)
class Gap:
    """Something that the report cannot show."""

    what: str
    """What is missing, and why where that is known."""
    command: str = ""
    """The command that makes it; empty where there is none."""

    def __str__(self) -> str:
        return f"{self.what}: run `{self.command}`" if self.command else self.what


def read(reader: Callable[[Path], Any], path: Path, folder: Path, gaps: list[Gap], gap: Gap) -> Any:
    """What `reader` makes of the file; None, and a gap, where the file is missing or is not what it should be."""
    if not path.exists():
        gaps.append(gap)
        return None
    try:
        return reader(path)
    except BROKEN as error:
        gaps.append(Gap(f"{gap.what} ({unreadable(path, folder, error)})", gap.command))
        return None


def attempt(gaps: list[Gap], what: str, make: Callable[[], T]) -> T | None:
    """What `make` returns; None and a gap where it fails, since no odd label or result may cost the whole page."""
    try:
        return make()
    except Exception as error:
        gaps.append(Gap(f"{what} ({reason(error)})"))
        return None


def unreadable(path: Path, folder: Path, error: Exception) -> str:
    """Which file cannot be read, and why."""
    return f"{path.relative_to(folder).as_posix()} cannot be read: {type(error).__name__}: {reason(error)}"


def reason(error: Exception) -> str:
    """Why something failed, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        ValueError: it holds something else.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object, found a {type(found).__name__}")
    return found


def texts(values: Iterable) -> tuple[str, ...]:
    """The values as text."""
    return tuple(map(str, values))


def mapping(value: Any) -> Mapping:
    """The value where it is a mapping; an empty one where a file or `params.yaml` holds something else."""
    return value if isinstance(value, Mapping) else {}
