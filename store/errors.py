"""What can go wrong with a store; each message says what was expected, what was found, where, and the next step."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class StoreError(ValueError):
    """The base of every error of this package."""


class FingerprintMismatch(StoreError):
    """The store holds values of another model or another preprocessing than the one at hand."""

    def __init__(self, path: object, stored: dict, wanted: dict):
        super().__init__(path, stored, wanted)  # what an error carries between processes
        self.path = path
        self.fields = tuple(name for name in sorted(stored | wanted) if stored.get(name) != wanted.get(name))
        self._found = differences(stored, wanted)

    def __str__(self) -> str:
        return (
            f"{self.path} was written by another view ({self._found}). "
            "Give the changed view a new name in params.yaml, or remove the old values with "
            f"`strata store drop {self.path}`."
        )


def differences(one: dict, other: dict, words: tuple[str, str] = ("stored", "wanted")) -> str:
    """The fields in which two fingerprints differ, with both values, each behind its word; empty where they do not."""
    return "; ".join(
        f"{name}: {words[0]} {values[0]}, {words[1]} {values[1]}"
        for name in sorted(one | other)
        if one.get(name) != other.get(name)
        for values in [_short(one.get(name), other.get(name))]
    )


class StoreLocked(StoreError):
    """Another process is writing to this store."""


class CorruptStore(StoreError):
    """Bytes on disk are not what was committed."""


class NoRoom(StoreError):
    """The disk is full, or a quota or a limit on file sizes is reached."""

    def __init__(self, what: str):
        super().__init__(what)

    def __str__(self) -> str:
        return f"{super().__str__()}; what was committed stays: make room, and the same command goes on from there"


@contextmanager
def naming_full_disks(place: object, name: str) -> Iterator[None]:
    """Turns the ways in which a disk says that it is full into NoRoom, with the file at which it said so."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoRoom(f"{place}: {error.strerror.lower()} at {name}") from error
        raise


def _short(*values: object) -> list[str]:
    """The values, cut to where they differ if they are long."""
    texts = [repr(value) for value in values]
    same = next((i for i, letters in enumerate(zip(*texts, strict=False)) if len({*letters}) > 1), 0)
    cut = slice(max(0, same - 24), same + 36)
    return [
        text if len(text) <= 60 else f"{'…' * (same > 24)}{text[cut]}{'…' * (len(text) > cut.stop)}" for text in texts
    ]
