"""Cached vectors for training: of each view the layers asked for, in one file that all models read.

A store is laid out to be written safely and read by layer; training reads it thousands of times, in random order. So
the rows that a command will train on are gathered once, below `.strata/gathered/<host>/`, for as long as some command
on this machine reads them (`trainers.inputs.mapped`). Where the disk has no room, they are held in memory; where that
has none either, the store itself is read.
"""

import hashlib
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from strata.pipeline.progress import say
from strata.store import FeatureStore
from strata.trainers.inputs.mapped import MappedFiles, NoRoom, memory_bytes
from strata.trainers.inputs.pooled import InMemory, Pooled
from strata.trainers.inputs.values import OfOneProcess, Values

PART_BYTES = 2**27
"""Of values that are copied at a time."""


class Gathered:
    """What one command reads of a study's stores; to be closed at its end."""

    def __init__(self, study: Path):
        self._files = MappedFiles(study / ".strata" / "gathered" / socket.gethostname())
        self._known: dict[tuple[str, tuple[str, ...]], tuple[Values, pd.Index]] = {}

    def pooled(
        self, view: str, store: FeatureStore, layers: Sequence[str], keys: Sequence[str], among: Iterable[str] = ()
    ) -> Pooled:
        """The layers of some utterances.

        Args:
            view: its name.
            store: of the view.
            layers: names of the layers.
            keys: of each utterance.
            among: all keys that this command is known to ask for; they are gathered together.
        """
        wanted = (view, tuple(layers))
        rows = self._known[wanted][1].get_indexer(keys) if wanted in self._known else np.array([-1])
        if (rows < 0).any():
            self._known[wanted] = self._values(view, store, layers, {*among, *keys})
            rows = self._known[wanted][1].get_indexer(keys)
        return Pooled(self._known[wanted][0], rows)

    def _values(self, view: str, store: FeatureStore, layers: Sequence[str], keys: set[str]) -> tuple[Values, pd.Index]:
        """Values, and whose row is whose."""
        # By key, which is a hash: neighbours in the file have nothing in common, however the corpus is ordered.
        ordered = sorted(keys)
        digest = hashlib.blake2b(repr((store.header.fingerprint, list(layers), ordered)).encode(), digest_size=12)
        name, shape = f"{view}-{digest.hexdigest()}", (len(ordered), len(layers), store.header.dim)
        try:
            return self._files.hold(name, shape, _streamed(store, layers, ordered)), pd.Index(ordered)
        except NoRoom as error:
            if 4 * 4 * int(np.prod(shape)) <= memory_bytes():
                say(f"{view}: held in memory, since {error}")
                return InMemory(store.pooled(ordered, layers)), pd.Index(ordered)
            say(f"{view}: read from its store in every epoch anew, which is slow, since {error}")
            found = InStore(store, layers, ordered)
            return found, pd.Index(found.keys)

    def close(self) -> None:
        """Lets go of everything."""
        self._known.clear()
        self._files.close()


def _streamed(
    store: FeatureStore, layers: Sequence[str], keys: Sequence[str]
) -> Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]:
    """Values by their places among `keys`, in the order in which the store has them."""

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.argsort(store.row_numbers(keys), kind="stable")
        size = max(1, PART_BYTES // (4 * len(layers) * store.header.dim))
        for start in range(0, len(order), size):
            places = order[start : start + size]
            yield places, store.pooled([keys[place] for place in places], layers)

    return parts


class InStore(OfOneProcess):
    """Values that are read from a store, in the order of its rows, block by block."""

    def __init__(self, store: FeatureStore, layers: Sequence[str], keys: Sequence[str]):
        self.store, self.layers = store, list(layers)
        self.keys = [keys[place] for place in np.argsort(store.row_numbers(keys), kind="stable")]
        self.shape = (len(self.keys), len(self.layers), store.header.dim)
        self.run = store.header.block_rows

    def read(self, rows: np.ndarray, layers: Sequence[int] | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """See `Values`."""
        names = self.layers if layers is None else [self.layers[layer] for layer in layers]
        found = self.store.pooled([self.keys[row] for row in rows], names)
        if out is None:
            return found
        out[:] = found
        return out

    def __reduce__(self):
        return _opened, (self.store.path.absolute(), self.layers, self.keys)  # whoever reads it may be anywhere


def _opened(path: Path, layers: Sequence[str], keys: Sequence[str]) -> InStore:
    return InStore(FeatureStore.open(path), layers, keys)
