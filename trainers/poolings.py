"""Layer-wise poolings: from one vector per layer to one vector."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class WeightedAverage(nn.Module):
    """Σ softmax(w)_l x_l with learned w, all equal at the start (Yang et al. 2021, SUPERB; wavCSE §2.2)."""

    def __init__(self, num_layers: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_layers))

    @property
    def weights(self) -> Float[Tensor, " layers"]:
        """The layers' shares; they sum to 1."""
        return self.logits.softmax(0)

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> Float[Tensor, "batch dim"]:
        """The weighted mean over the layers."""
        return torch.einsum("bld,l->bd", x, self.weights)
