"""Pooled vectors of utterances, wherever they lie: numbers of utterances in, a batch of values out.

Memory holds the batches and never the view: the values of 150,000 utterances may be larger than it, and the models of
hundreds of cells, folds and seeds, in as many processes as there are, all read the same file (`inputs.mapped`).
"""

import uuid
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from strata.trainers.inputs.mapped import MappedFiles, NoRoom, own_temporary_folder
from strata.trainers.inputs.values import OfOneProcess, Values, rows_of

PART_BYTES = 2**25
"""Of values that are gathered at a time by whoever goes through all of them."""
MAPPED_BYTES = 2**20
"""Of an array, from which on a file for all processes costs less than a copy for each model."""


class InMemory(OfOneProcess):
    """Values in an array.

    Large ones that are pickled, to be trained on in other processes, go into a file once, which all of them map. It is
    there for as long as this object is.
    """

    run = 1

    def __init__(self, values: np.ndarray):
        self.values = np.ascontiguousarray(values)
        self.shape = self.values.shape

    @cached_property
    def _mapped(self) -> Values | None:
        if self.values.nbytes < MAPPED_BYTES:
            return None
        try:
            files = MappedFiles(own_temporary_folder())
            weakref.finalize(self, files.close)
            return files.hold(uuid.uuid4().hex, self.shape, lambda: iter([(slice(None), self.values)]))
        except NoRoom:
            return None

    def read(self, rows: np.ndarray, layers: Sequence[int] | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """See `Values`."""
        return rows_of(self.values, rows, layers, out)

    def __reduce__(self):
        return (InMemory, (self.values,)) if self._mapped is None else self._mapped.__reduce__()


@dataclass(frozen=True)
class Pooled:
    """A view of utterances, [utterances, layers, dim], each with its row of some values."""

    values: Values
    rows: Int[np.ndarray, " utterances"]
    """Of each utterance."""
    layers: tuple[int, ...] | None = None
    """Numbers of those that it has, of the values' layers; all where None."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Utterances, layers, dim."""
        _, layers, dim = self.values.shape
        return len(self.rows), layers if self.layers is None else len(self.layers), dim

    @property
    def nbytes(self) -> int:
        """Of all its values."""
        return 4 * int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.rows)

    def take(
        self, rows: Int[np.ndarray, " n"], out: Float[np.ndarray, "n layers dim"] | None = None
    ) -> tuple[Float[np.ndarray, "n layers dim"], None]:
        """The values of some utterances, in memory that is the caller's.

        Args:
            rows: numbers of the utterances.
            out: where to put them.

        Returns:
            Values and, since these are not ragged, no lengths.
        """
        return self.values.read(self.rows[rows], self.layers, out), None

    def expect(self, rows: Int[np.ndarray, " n"]) -> None:
        """Says which utterances will be taken next, so that their values can be fetched meanwhile."""
        self.values.expect(self.rows[rows])

    def select(self, layers: Sequence[int]) -> "Pooled":
        """The same utterances with some of the layers, by their numbers here."""
        own = range(self.values.shape[1]) if self.layers is None else self.layers
        return Pooled(self.values, self.rows, tuple(own[layer] for layer in layers))

    def parts(self, rows: Int[np.ndarray, " n"], most_bytes: int = PART_BYTES) -> Iterator[np.ndarray]:
        """`rows` in parts whose values are of bounded size, at least one utterance each."""
        _, layers, dim = self.shape
        size = max(1, most_bytes // (4 * layers * dim))
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def as_pooled(values: "Pooled | np.ndarray") -> Pooled:
    """Values [utterances, layers, dim] as a trainer takes them: arrays (or tensors) stay where they lie."""
    if isinstance(values, Pooled):
        return values
    array = InMemory(np.asarray(values, np.float32))
    return Pooled(array, np.arange(array.shape[0]))
