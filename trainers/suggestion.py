"""The name that was probably meant, for messages about one that nobody knows."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like another; None where none is."""
    return next(iter(get_close_matches(name, list(known), n=1)), None)
