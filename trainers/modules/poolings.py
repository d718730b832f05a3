"""Layer-wise poolings: from one vector per layer to one vector.

The ten that wavCSE §2.2 takes from SUPERB-EP (Sritharan et al. 2025). wavCSE names them without formulas; those used
here stand in each class, with the older source that they come from. Only `WeightedAverage` and `Gated` know one layer
from another, and only in `SelfAttention` does a dimension depend on the others.

Knows nothing of views, tasks or what the vectors are.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class WeightedAverage(nn.Module):
    """Σ softmax(w)_l x_l with learned w, all equal at the start (Yang et al. 2021, SUPERB; wavCSE §2.2)."""

    def __init__(self, num_layers: int, dim: int | None = None):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_layers))

    @property
    def weights(self) -> Float[Tensor, " layers"]:
        """The layers' shares; they sum to 1."""
        return self.logits.softmax(0)

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> Float[Tensor, "batch dim"]:
        """The weighted mean over the layers."""
        # As a product per utterance: `einsum` would copy all values to have one product of all.
        return torch.bmm(self.weights.expand(len(x), 1, -1), x)[:, 0]


class Mean(nn.Module):
    """(1/L) Σ x_l (wavCSE §2.2)."""

    def __init__(self, num_layers: int, dim: int):
        super().__init__()

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> Float[Tensor, "batch dim"]:
        """The mean over the layers."""
        return x.mean(1)


class Max(nn.Module):
    """max_l x_l in each dimension (wavCSE §2.2); layers that share the largest value share its gradient."""

    def __init__(self, num_layers: int, dim: int):
        super().__init__()

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> Float[Tensor, "batch dim"]:
        """The largest value over the layers."""
        return x.amax(1)


class Mixed(nn.Module):
    """a·max + (1 − a)·mean with one learned a (Lee, Gallagher & Tu 2016, mixed max-average).

    Unlike there, a is a sigmoid of what is learned, so that it stays a share; it starts at ½.
    """

    def __init__(self, num_layers: int, dim: int):
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(()))

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> Float[Tensor, "batch dim"]:
        """Between the mean and the largest value over the layers."""
        return torch.lerp(x.mean(1), x.amax(1), self.logit.sigmoid())


class Gated(nn.Module):
    """g·max + (1 − g)·mean with g = σ(Σ w_l x_l) and learned w (Lee, Gallagher & Tu 2016).

    Unlike `Mixed`, the share depends on the values: each dimension of each utterance has its own. The weights are those
    of the layers, common to all dimensions, and start at 0, where g is ½.
    """

    def __init__(self, num_layers: int, dim: int):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(num_layers))

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> Float[Tensor, "batch dim"]:
        """Between the mean and the largest value over the layers."""
        gate = torch.einsum("bld,l->bd", x, self.gate).sigmoid()
        return torch.lerp(x.mean(1), x.amax(1), gate)


class LearnedNorm(nn.Module):
    """((1/L) Σ |x_l|^p)^{1/p}, p = 1 + softplus(ρ) ρ learned (Gulcehre et al. 2014).

    As there, every dimension has a p of its own; it starts at 2, the root mean square. Signs are lost: of one layer it
    is |x|.
    """

    def __init__(self, num_layers: int, dim: int):
        super().__init__()
        self.rho = nn.Parameter(torch.full((dim,), math.log(math.e - 1)))

    @property
    def order(self) -> Float[Tensor, " dim"]:
        """p of every dimension."""
        return 1 + nn.functional.softplus(self.rho)

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> Float[Tensor, "batch dim"]:
        """The mean of order p of the absolute values over the layers."""
        # The largest |x| is factored out, so no power overflows, and the sum under the root is at least 1. The result
        # does not depend on the factor, which is why no gradient has to flow through it.
        sizes = x.abs()
        largest = sizes.detach().amax(1, keepdim=True)
        nothing = largest == 0  # the root has no slope there: its argument is 1, and the factor makes it 0
        powers = (sizes / largest.masked_fill(nothing, 1.0)) ** self.order
        mean = powers.mean(1) + nothing[:, 0]
        return largest[:, 0] * mean ** (1 / self.order)


class LogSumExp(nn.Module):
    """(1/r) log((1/L) Σ e^{r x_l}) (Pinheiro & Collobert 2015).

    Between the mean (r → 0) and the maximum (r → ∞); r is fixed, 1 unless said otherwise.
    """

    def __init__(self, num_layers: int, dim: int, sharpness: float = 1.0):
        super().__init__()
        self.sharpness = sharpness

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> Float[Tensor, "batch dim"]:
        """The logarithm of the mean of exponentials over the layers."""
        return ((self.sharpness * x).logsumexp(1) - math.log(x.shape[1])) / self.sharpness


class SmoothMaximum(nn.Module):
    """Σ x_l e^{λ x_l} / Σ e^{λ x_l}, the Boltzmann operator (softmax pooling in McFee et al. 2018).

    Unlike `LogSumExp` a mean of the values, so it never leaves their range; λ is fixed, 1 unless said otherwise.
    """

    def __init__(self, num_layers: int, dim: int, sharpness: float = 1.0):
        super().__init__()
        self.sharpness = sharpness

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> Float[Tensor, "batch dim"]:
        """The mean over the layers in which larger values weigh more."""
        return (x * (self.sharpness * x).softmax(1)).sum(1)


class Auto(nn.Module):
    """Σ x_l e^{α x_l} / Σ e^{α x_l} with learned α (McFee, Salamon & Bello 2018, auto-pool).

    As there, every dimension has an α of its own, which starts at 1: the mean is at 0, the maximum at ∞, the minimum
    at −∞.
    """

    def __init__(self, num_layers: int, dim: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> Float[Tensor, "batch dim"]:
        """The mean over the layers in which larger values weigh more, or less."""
        return (x * (self.alpha * x).softmax(1)).sum(1)


class SelfAttention(nn.Module):
    """Σ a_l x_l with a = softmax_l(vᵀ tanh(W x_l)) and learned W and v (Lin et al. 2017; Yang et al. 2016).

    Unlike `WeightedAverage`, the shares are each utterance's own, and follow a layer wherever it stands. W has `hidden`
    rows and, as in Lin et al., no bias.
    """

    def __init__(self, num_layers: int, dim: int, hidden: int = 128):
        super().__init__()
        self.project = nn.Linear(dim, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> Float[Tensor, "batch dim"]:
        """The mean over the layers by the attention that each gets."""
        shares = self.score(self.project(x).tanh()).softmax(1)
        return (x * shares).sum(1)


POOLINGS: dict[str, type[nn.Module]] = {
    "weighted": WeightedAverage,
    "mean": Mean,
    "max": Max,
    "mixed": Mixed,
    "gated": Gated,
    "learned-norm": LearnedNorm,
    "log-sum-exp": LogSumExp,
    "smooth-maximum": SmoothMaximum,
    "auto": Auto,
    "self-attention": SelfAttention,
}
"""Every pooling by its name in params.yaml: see `spec.Pooling`."""


def pooling(name: str, num_layers: int, dim: int) -> nn.Module:
    """A pooling that has learned nothing yet, from [batch, num_layers, dim] to [batch, dim].

    Raises:
        ValueError: no pooling has that name.
    """
    if name not in POOLINGS:
        raise ValueError(f"expected a pooling of {', '.join(POOLINGS)}, got {name!r}")
    return POOLINGS[name](num_layers, dim)
