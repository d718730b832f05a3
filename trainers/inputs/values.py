"""Where the values of a view lie, as whoever reads them sees it, and how rows of an array are copied."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int


@runtime_checkable
class Values(Protocol):
    """Where [rows, layers, dim] lie; small when it is pickled, unless it is an array."""

    shape: tuple[int, int, int]
    run: int
    """Neighbouring rows that are better read together than one by one."""

    def read(
        self, rows: Int[np.ndarray, " n"], layers: Sequence[int] | None, out: np.ndarray | None = None
    ) -> Float[np.ndarray, "n layers dim"]:
        """Some rows in the order given, all layers or some of them, in memory that is the caller's: `out`, if given."""

    def expect(self, rows: Int[np.ndarray, " n"]) -> None:
        """Says what will be read next, so that it can be fetched meanwhile."""

    def kept(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """What was computed of these values once, and is for all who read them."""


class OfOneProcess:
    """What values have in common that every process reads for itself."""

    def expect(self, rows: np.ndarray) -> None:
        """See `Values`: nothing is fetched beforehand."""

    def kept(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """See `Values`."""
        known = self.__dict__.setdefault("_kept", {})
        if name not in known:
            known[name] = make()
        return known[name]


def rows_of(
    values: np.ndarray, rows: np.ndarray, layers: Sequence[int] | None, out: np.ndarray | None = None
) -> Float[np.ndarray, "n layers dim"]:
    """A copy of some rows and layers of an array [rows, layers, dim], in `out` if given."""
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(values):
        raise IndexError(f"expected rows below {len(values)}, got {rows.min()} to {rows.max()}")
    if layers is not None:
        _, num_layers, dim = values.shape
        rows, values = rows[:, None] * num_layers + np.asarray(layers), values.reshape(-1, dim)
    # Checked above: with its own check, NumPy would make a copy of all that it puts into `out`.
    return np.take(values, rows, axis=0, out=out, mode="clip")
