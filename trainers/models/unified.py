"""The model of wavCSE (§2.3, Fig. 1): all layers of a view → one embedding of a fixed size → one output per task.

    layers → standardise → FC1, shared by the layers → pooling over the layers → ReLU → FC2 = the embedding → outputs

The paper is silent on what stands between FC1 and FC2 but the pooling; the ReLU is this project's choice. FC2 and the
outputs are linear, and so is all that follows the ReLU.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.trainers.inputs.pooled import Pooled
from strata.trainers.inputs.standardise import Standardise
from strata.trainers.modules.poolings import pooling
from strata.trainers.spec import Elimination, Experiment, Pooling


class UnifiedEmbedding(nn.Module):
    """One view to one output per task, by way of the unified embedding.

    Weights of `weighted` sum to 1 and FC1 is linear, so FC1 is applied once to the average instead of once per layer:
    the same values at 1/L of the products. FC2 and the outputs are multiplied with each other first where there are
    fewer outputs than utterances in a batch: the same values again, and the embedding is made when it is asked for.
    """

    def __init__(
        self,
        num_layers: int,
        dim: int,
        how: Experiment | Elimination,
        outputs: Mapping[str, int],
        over_layers: Pooling,
    ):
        """Builds an untrained model.

        Args:
            num_layers: that it sees.
            dim: of each layer.
            how: says the widths `shared` and `embedding`.
            outputs: for each task how many numbers it gives.
            over_layers: the pooling.
        """
        super().__init__()
        self.standardise = Standardise(num_layers, dim)
        self.pools_first = over_layers == "weighted"
        self.pooling = pooling(over_layers, num_layers, dim if self.pools_first else how.shared)
        self.shared = nn.Linear(dim, how.shared)
        self.embedding = nn.Linear(how.shared, how.embedding)
        self.heads = nn.ModuleList(nn.Linear(how.embedding, n) for n in outputs.values())
        self.joins_linear = sum(outputs.values()) < how.batch_size
        self.tasks = tuple(outputs)
        self.register_buffer("target_mean", torch.zeros(len(outputs), dtype=torch.float64))
        self.register_buffer("target_scale", torch.ones(len(outputs), dtype=torch.float64))

    def prepare(self, features: Sequence[Pooled | np.ndarray], train: np.ndarray) -> None:
        """Takes the statistics of the training utterances of the one view [utterances, layers, dim]."""
        (values,) = features
        self.standardise.fit(values, train)

    def shared_parameters(self) -> list[nn.Parameter]:
        """The last weights that all tasks share: what balances the tasks looks at their gradients."""
        return [self.embedding.weight]

    def embed(self, x: Float[Tensor, "batch layers dim"]) -> Float[Tensor, "batch embedding"]:
        """The unified embedding."""
        return self.embedding(self.hidden(x))

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> dict[str, Float[Tensor, "batch outputs"]]:
        """Every task's logits, or standardised values."""
        return self.outputs(self.hidden(x))

    def outputs(self, hidden: Float[Tensor, "batch shared"]) -> dict[str, Float[Tensor, "batch outputs"]]:
        """Every task's logits from what FC2 is given."""
        weight = torch.cat([head.weight for head in self.heads])
        bias = torch.cat([head.bias for head in self.heads])
        sizes = [head.out_features for head in self.heads]
        if self.joins_linear:
            bias = torch.addmv(bias, weight, self.embedding.bias)
            given = torch.addmm(bias, hidden, (weight @ self.embedding.weight).mT)
        else:
            given = torch.addmm(bias, self.embedding(hidden), weight.mT)
        return dict(zip(self.tasks, given.split(sizes, dim=1), strict=True))

    def hidden(self, x: Float[Tensor, "batch layers dim"], without: int | None = None) -> Float[Tensor, "batch shared"]:
        """What FC2 is given; `without` holds one of the layers at its training mean, so that it tells nothing."""
        x = self.standardise(x)
        if without is not None:
            x[:, without] = 0
        return torch.relu(self.shared(self.pooling(x)) if self.pools_first else self.pooling(self.shared(x)))
