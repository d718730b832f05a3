"""What makes a score of two embeddings: standardise, discriminants, unit length, PLDA, fitted on the same utterances.

The usual chain behind an embedding: linear discriminant analysis, length normalisation (Garcia-Romero & Espy-Wilson
2011), PLDA (`evaluation.plda`). Embeddings are asked for block by block, pass after pass, so that memory holds sums and
a block, however many utterances there are.

Knows arrays and class numbers; nothing of folds and trials. `evaluation.verification` uses it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigh

from strata.trainers.evaluation import plda
from strata.trainers.evaluation.scatter import Scatter, scatter
from strata.trainers.inputs.pooled import Pooled
from strata.trainers.inputs.standardise import moments
from strata.trainers.scale import CLIP, divisor

BLOCK_BYTES = 1 << 22
"""Of embeddings in float64 that are worked on at a time: bounds the memory."""


@dataclass(frozen=True)
class Vectors:
    """Some utterances' embeddings, which are never all of them in memory."""

    values: Pooled
    """Of all utterances."""
    rows: Int[np.ndarray, " rows"]
    """Which of them, in this order."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Numbers of one embedding: all layers, one behind the other."""
        return int(np.prod(self.values.shape[1:]))

    def blocks(self) -> Iterator[Float[np.ndarray, "block dim"]]:
        """One pass over the rows, float64."""
        size = max(1, BLOCK_BYTES // (8 * self.dim))
        for start in range(0, len(self.rows), size):
            rows = self.rows[start : start + size]
            yield self.values.take(rows)[0].reshape(len(rows), -1).astype(np.float64)


@dataclass(frozen=True)
class Backend:
    """What makes a score of two embeddings, fitted."""

    mean: Float[np.ndarray, " dim"]
    scale: Float[np.ndarray, " dim"]
    directions: Float[np.ndarray, "dim discriminants"]
    model: plda.TwoCovariance

    @classmethod
    def fit(cls, x: "Vectors", speakers: Int[np.ndarray, " rows"], dimensions: int) -> "Backend | None":
        """Fits all of its parts on the same utterances; None where those are of one speaker, or of each but one."""
        known, numbers = np.unique(speakers, return_inverse=True)
        if len(known) < 2 or len(known) == len(speakers):
            return None
        mean, sd = moments(x.values, x.rows).reshape(2, x.dim)
        scale = divisor(mean, sd)
        found = scatter(lambda: (_standardised(block, mean, scale) for block in x.blocks()), numbers)
        directions = _discriminants(found, min(dimensions, len(known) - 1, x.dim))
        projected = scatter(lambda: (_projected(block, mean, scale, directions) for block in x.blocks()), numbers)
        return cls(mean, scale, directions, plda.fit_to(projected))

    def scores(
        self, x: "Vectors", first: Int[np.ndarray, " pairs"], second: Int[np.ndarray, " pairs"]
    ) -> Float[np.ndarray, " pairs"]:
        """Log-likelihood ratios of pairs of rows."""
        alone, together = np.empty(len(x)), np.empty((len(x), self.directions.shape[1]))
        start = 0
        for block in x.blocks():
            part = slice(start, start + len(block))
            projected = _projected(block, self.mean, self.scale, self.directions)
            alone[part], together[part] = self.model.shares(projected)
            start = part.stop
        return self.model.ratios(alone, together, first, second)


def _standardised(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """As `inputs.standardise` does it: nothing of what was constant, and within ± `CLIP`."""
    return np.clip((x - mean) / scale, -CLIP, CLIP)


def _projected(x: np.ndarray, mean: np.ndarray, scale: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """What PLDA is given [rows, discriminants]."""
    return _of_unit_length(_standardised(x, mean, scale) @ directions)


def _discriminants(found: Scatter, number: int) -> np.ndarray:
    """The directions [dim, number] along which speakers lie apart the most, for how far one speaker's utterances do.

    Linear discriminant analysis with Ledoit and Wolf's shrinkage of the covariance within speakers, all speakers taken
    together: embeddings have thousands of numbers, and plain LDA finds directions along which the training utterances
    of a speaker coincide and those of nobody else. (scikit-learn's shrinks the covariance of each speaker by itself,
    which of a few utterances says little.)
    """
    dim = len(found.within)
    between = (found.counts[:, None] * found.means).T @ found.means / found.num_rows
    _, directions = eigh(between, found.shrunk() + 1e-6 * np.eye(dim), subset_by_index=(dim - number, dim - 1))
    return directions


def _of_unit_length(x: np.ndarray) -> np.ndarray:
    """Every row divided by its length; along a single direction that would leave nothing but a sign."""
    if x.shape[1] == 1:
        return x
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
