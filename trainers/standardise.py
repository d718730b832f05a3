"""Standardisation by training data, kept with the weights: a saved model takes raw cached values."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn


class Standardise(nn.Module):
    """(x − mean) / sd, for every layer and dimension of a view."""

    def __init__(self, num_layers: int, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_layers, dim))
        self.register_buffer("scale", torch.ones(num_layers, dim))

    def fit(self, values: np.ndarray, rows: np.ndarray, layers: Sequence[int] | None = None) -> None:
        """Takes the statistics of some rows of [utterances, layers, dim]; a constant dimension is only centred.

        Args:
            values: the view.
            rows: numbers of the utterances.
            layers: numbers of the layers; all where not given.
        """
        # Block by block: a copy of all rows may be gigabytes, and as many again in float64.
        blocks = np.array_split(rows, max(1, len(rows) // 256))
        which = slice(None) if layers is None else list(layers)
        mean = sum(values[block][:, which].sum(axis=0, dtype=np.float64) for block in blocks) / len(rows)
        sd = np.sqrt(sum(np.square(values[block][:, which] - mean).sum(axis=0) for block in blocks) / len(rows))
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(np.where(sd > 1e-8, sd, 1.0)))

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> Float[Tensor, "batch layers dim"]:
        """Standardised values."""
        return (x - self.mean) / self.scale
