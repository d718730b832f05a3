"""Standardisation by training data, kept with the weights: a saved model takes raw cached values."""

import hashlib

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from strata.trainers.inputs.pooled import Pooled, as_pooled
from strata.trainers.scale import CLIP, divisor

PIVOT_ROWS = 256
"""Training utterances whose mean is close enough to that of all: nothing is lost where values lie far from zero."""
ALIGNED = 64
"""Bytes that the address of a batch is a multiple of."""
PART_BYTES = 2**20
"""Of values at a time: they and their squares stay in the processor's cache."""


class Standardise(nn.Module):
    """(x − mean) / sd, for every layer and dimension of a view, within ± `CLIP`; 0 where training data are constant.

    See `trainers.scale` for both.
    """

    def __init__(self, num_layers: int, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_layers, dim))
        self.register_buffer("scale", torch.ones(num_layers, dim))

    def fit(self, values: Pooled | np.ndarray, rows: np.ndarray) -> None:
        """Takes the statistics of some rows of [utterances, layers, dim].

        Args:
            values: the view.
            rows: numbers of the utterances.
        """
        mean, sd = moments(as_pooled(values), rows)
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(divisor(mean, sd)))

    def forward(
        self, x: Float[Tensor, "batch layers dim"], out: Float[Tensor, "batch layers dim"] | None = None
    ) -> Float[Tensor, "batch layers dim"]:
        """Standardised values, in `out` where it is given."""
        out = _room(x) if out is None else out
        return torch.sub(x, self.mean, out=out).div_(self.scale).clamp_(-CLIP, CLIP)


def _room(x: Tensor) -> Tensor | None:
    """Memory for a batch that takes the place of the batch before; None for PyTorch's own.

    PyTorch asks the allocator for aligned memory, which in a heap that is kept (`training.memory`) does not fit where
    the last batch was: it then holds one batch of hundreds of megabytes more. Here the memory is aligned by ourselves,
    and as PyTorch's is: products round otherwise where it is not.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return None
    room = np.empty(x.numel() + ALIGNED // 4, np.float32)
    begin = -room.ctypes.data % ALIGNED // 4
    return torch.from_numpy(room[begin : begin + x.numel()]).view(x.shape)


def moments(values: Pooled, rows: Int[np.ndarray, " n"]) -> Float64[np.ndarray, "2 layers dim"]:
    """Mean and standard deviation over some utterances, in one pass; kept for all who ask for those of the same rows.

    They are those of all layers of the values that the view is of: whoever sees some of the layers finds them there.
    """
    where = values.rows[rows]
    whole = Pooled(values.values, values.rows)
    name = hashlib.blake2b(np.ascontiguousarray(where, np.int64).tobytes(), digest_size=16).hexdigest()
    found = values.values.kept(name, lambda: _moments(whole, rows))
    return found if values.layers is None else found[:, list(values.layers)]


def _moments(values: Pooled, rows: np.ndarray) -> np.ndarray:
    pivot = _mean(values, rows[:: -(-len(rows) // PIVOT_ROWS)])
    total, squares = np.zeros_like(pivot), np.zeros_like(pivot)
    for part in values.parts(rows, PART_BYTES):
        x, _ = values.take(part)
        total += x.sum(axis=0, dtype=np.float64)  # of float32 exact, or nearly: the same in whatever parts it is summed
        x = np.subtract(x, pivot, dtype=np.float64)
        squares += np.einsum("rld,rld->ld", x, x)
    mean = total / len(rows)
    return np.stack([mean, np.sqrt(np.maximum(squares / len(rows) - (mean - pivot) ** 2, 0))])


def _mean(values: Pooled, rows: np.ndarray) -> np.ndarray:
    return sum(values.take(part)[0].sum(axis=0, dtype=np.float64) for part in values.parts(rows, PART_BYTES)) / len(
        rows
    )
