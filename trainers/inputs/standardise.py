"""Standardisation by training data, kept with the weights: a saved model takes raw cached values."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.trainers.scale import CLIP, divisor


class Standardise(nn.Module):
    """(x − mean) / sd, for every layer and dimension of a view, within ± `CLIP`; 0 where training data are constant.

    See `trainers.scale` for both.
    """

    def __init__(self, num_layers: int, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_layers, dim))
        self.register_buffer("scale", torch.ones(num_layers, dim))

    def fit(self, values: np.ndarray, rows: np.ndarray, layers: Sequence[int] | None = None) -> None:
        """Takes the statistics of some rows of [utterances, layers, dim].

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
        self.scale.copy_(torch.from_numpy(divisor(mean, sd)))

    def forward(
        self, x: Float[Tensor, "batch layers dim"], out: Float[Tensor, "batch layers dim"] | None = None
    ) -> Float[Tensor, "batch layers dim"]:
        """Standardised values, in `out` where it is given."""
        return torch.sub(x, self.mean, out=out).div_(self.scale).clamp_(-CLIP, CLIP)
