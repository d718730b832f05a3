"""What can go wrong with a store; each message says what was expected, what was found, where, and the next step."""


class StoreError(ValueError):
    """The base of every error of this package."""


class FingerprintMismatch(StoreError):
    """The store holds values of another model or another preprocessing than the one at hand."""

    def __init__(self, path, stored: dict, wanted: dict):
        self.fields = tuple(name for name in sorted(stored | wanted) if stored.get(name) != wanted.get(name))
        found = "; ".join(
            f"{name}: stored {_short(stored.get(name))}, wanted {_short(wanted.get(name))}" for name in self.fields
        )
        super().__init__(
            f"{path} was written by another view ({found}). "
            "Give the changed view a new name in params.yaml, or remove the old values with "
            f"`strata store drop {path}`."
        )


class StoreLocked(StoreError):
    """Another process is writing to this store."""


class CorruptStore(StoreError):
    """Bytes on disk are not what was committed."""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:28]}…{text[-28:]}"
