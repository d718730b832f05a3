"""Means of classes and the scatter about them, of rows that come block by block: what LDA and PLDA are fitted from.

Everything is summed in float64. Nothing but the sums is kept, so that memory does not grow with the rows.

Knows arrays; nothing of utterances, speakers or scores.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

Blocks = Callable[[], Iterable[np.ndarray]]
"""Makes a pass over rows [block, dim], float64, always the same ones in the same order."""


@dataclass(frozen=True)
class Scatter:
    """What is known of rows of several classes."""

    counts: Int[np.ndarray, " classes"]
    """Rows of each class."""
    means: Float[np.ndarray, "classes dim"]
    within: Float[np.ndarray, "dim dim"]
    """Σ (x − mean of its class)(x − mean of its class)ᵀ over all rows."""
    fourth: float
    """Σ |x − mean of its class|⁴ over all rows."""

    @property
    def num_rows(self) -> int:
        """Of all classes."""
        return int(self.counts.sum())

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Of all rows."""
        return self.counts @ self.means / self.num_rows

    @property
    def variance(self) -> float:
        """Of all rows about their mean, averaged over the axes."""
        between = self.counts @ np.square(self.means - self.mean).sum(axis=1)
        return float((np.trace(self.within) + between) / (self.num_rows * self.means.shape[1]))

    def shrunk(self) -> Float[np.ndarray, "dim dim"]:
        """The covariance within classes, drawn towards a multiple of the identity by Ledoit and Wolf's share (2004).

        As `sklearn.covariance.ledoit_wolf` has it for centred rows, which it wants all at once; of those the share asks
        for no more than their covariance and the fourth powers of their lengths.
        """
        dim = len(self.within)
        covariance = self.within / self.num_rows
        if dim == 1:
            return covariance
        level = np.trace(covariance) / dim
        squares = np.square(covariance).sum()
        error = (self.fourth / self.num_rows - squares) / self.num_rows
        apart = squares - dim * level**2
        error = min(error, apart)
        share = error / apart if error else 0.0
        shrunk = (1 - share) * covariance
        shrunk.flat[:: dim + 1] += share * level
        return shrunk


def scatter(blocks: Blocks, numbers: Int[np.ndarray, " rows"]) -> Scatter:
    """Two passes over rows: one for the means of their classes, one for what lies about these.

    Args:
        blocks: the rows.
        numbers: the class of each, from 0 on, none left out.
    """
    counts = np.bincount(numbers)
    sums = 0.0
    for x, classes in _with(blocks, numbers):
        sums = sums + _membership(classes, len(counts)).T @ x
    means = sums / counts[:, None]
    within, fourth = np.zeros((means.shape[1],) * 2), 0.0
    for x, classes in _with(blocks, numbers):
        x = x - means[classes]
        within += x.T @ x
        fourth += float(np.square(np.square(x).sum(axis=1)).sum())
    return Scatter(counts, means, within, fourth)


def _with(blocks: Blocks, numbers: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Each block with the numbers of its rows."""
    start = 0
    for x in blocks():
        yield x, numbers[start : start + len(x)]
        start += len(x)


def _membership(numbers: np.ndarray, num_classes: int) -> csr_array:
    """[rows, classes]: 1 where a row is of a class."""
    places = np.arange(len(numbers) + 1)
    return csr_array((np.ones(len(numbers)), numbers, places), shape=(len(numbers), num_classes))
