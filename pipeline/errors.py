"""The error of a stage: one line that says what was expected, what was found, and the next step.

And how a stage that works on many names goes on: what goes wrong with one of them is told under its name, at the end.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

MOST_NAMED = 5
"""Titles that are all told, where one and the same error has several."""


class StageError(ValueError):
    """A stage that cannot go on, or went on and left too much undone."""


class Errors:
    """What went wrong where: one that fails, in whatever way, is no reason to leave the others undone."""

    def __init__(self):
        self.places: dict[str, list[str]] = {}
        self._first: Exception | None = None

    @contextmanager
    def of(self, title: str) -> Iterator[None]:
        """Takes note of an error in the block, and goes on."""
        try:
            yield
        except Exception as error:
            self._first = self._first or error
            self.places.setdefault(one_line(error), []).append(title)

    def raise_if_any(self) -> None:
        """One error that tells all of them; what went wrong in many places the same way is told once.

        Raises:
            StageError: from the first of them, whose traceback `--debug` thus shows.
        """
        if self.places:
            lines = [f"{_listed(titles)}: {message}" for message, titles in self.places.items()]
            raise StageError("; ".join(lines)) from self._first


def _listed(titles: Sequence[str]) -> str:
    """All of a few; of the cells of a grid the first one, and how many more there are."""
    return ", ".join(titles) if len(titles) <= MOST_NAMED else f"{titles[0]} and {len(titles) - 1} more"


def for_each(names: Sequence[str], action: Callable[[str], None], what: str) -> None:
    """Calls `action` with every name; one that fails is no reason to leave the others undone.

    Raises:
        StageError: some failed; all their messages.
    """
    errors = Errors()
    for name in names:
        with errors.of(f"{what} {name}"):
            action(name)
    errors.raise_if_any()


def one_line(error: Exception) -> str:
    """An expected error says all itself; an unexpected one says what it is and how to see more."""
    text = " ".join(str(error).split())
    if isinstance(error, ValueError | OSError):
        return text
    return f"unexpected {type(error).__name__}: {text}; run again with --debug for the traceback"


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that was probably meant; None where none is like it.

    Args:
        name: what nobody knows.
        known: what there is.
        cutoff: how much of the two must agree, from 0 to 1.
    """
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def suggestion(name: str, known: Iterable[str]) -> str:
    """How a message goes on about a name that nobody knows; empty where none is like it."""
    close = nearest(name, known)
    return f", did you mean {close!r}?" if close else ""
