"""Fusion by optimal transport (TANGO §4.1, eqs 1–3): what one view says, carried to where the other says the same.

The support points of a view are its positions after the convolution blocks, and every utterance has a transport plan of
its own, so that a prediction does not depend on who else is in the batch. (The paper leaves the points open.)
"""

import os

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trainers.spec import Fusion

os.environ.setdefault("POT_BACKEND_DISABLE_TENSORFLOW", "1")  # else `import ot` loads TensorFlow: 8 s and 0.9 GB


def cost(x1: Float[Tensor, "batch n dim"], x2: Float[Tensor, "batch m dim"]) -> Float[Tensor, "batch n m"]:
    """Euclidean distances between the points of two views, scaled to [0, 1] per utterance (eq 3)."""
    squared = (x1.square().sum(-1).unsqueeze(2) + x2.square().sum(-1).unsqueeze(1) - 2 * x1 @ x2.mT).clamp_min(0)
    distances = torch.sqrt(squared + 1e-12)  # the offset keeps the gradient finite where two points coincide
    return distances / distances.amax(dim=(1, 2), keepdim=True)


def transport_plan(
    costs: Float[Tensor, "batch n m"], epsilon: float, iterations: int, tolerance: float
) -> Float[Tensor, "batch n m"]:
    """Entropic transport plans with uniform marginals, by Sinkhorn in the log domain; gradients flow through them.

    Args:
        costs: cost matrices.
        epsilon: entropic regularisation.
        iterations: at most this many.
        tolerance: stop once no potential of the whole batch moves by more; 0 runs all iterations, which makes each plan
            independent of the rest of the batch.
    """
    from ot.batch import solve_batch

    return solve_batch(
        costs, reg=epsilon, method="log_sinkhorn", max_iter=iterations, tol=tolerance, grad="autodiff"
    ).plan


class OptimalTransport(nn.Module):
    """Two gated views, each beside what the other carries to it, flattened into one vector."""

    def __init__(self, fusion: Fusion):
        super().__init__()
        self.fusion = fusion

    def num_outputs(self, positions: tuple[int, int], channels: int) -> int:
        """Width of the fused vector."""
        first, second = positions
        to_first, to_second = (self.fusion.direction in ("both", d) for d in ("x2->x1", "x1->x2"))
        return channels * (first * (1 + to_first) + second * (1 + to_second))

    def forward(
        self, x1: Float[Tensor, "batch n channels"], x2: Float[Tensor, "batch m channels"]
    ) -> Float[Tensor, "batch fused"]:
        """Gates, transports and joins the two views."""
        x1, x2 = nn.functional.silu(x1), nn.functional.silu(x2)  # the paper's gate x·σ(x)
        # Early stopping looks at the whole batch, so only training uses it: a prediction is one utterance's alone.
        tolerance = self.fusion.tolerance if self.training else 0.0
        plan = transport_plan(cost(x1, x2), self.fusion.epsilon, self.fusion.iterations, tolerance)
        sides = [x1, x2]
        if self.fusion.direction in ("both", "x2->x1"):
            sides.append(self._carry(plan, x2))
        if self.fusion.direction in ("both", "x1->x2"):
            sides.append(self._carry(plan.mT, x1))
        return torch.cat([side.flatten(1) for side in sides], dim=1)

    def _carry(
        self, plan: Float[Tensor, "batch n m"], x: Float[Tensor, "batch m channels"]
    ) -> Float[Tensor, "batch n channels"]:
        if self.fusion.transported == "barycentric":
            plan = plan / plan.sum(2, keepdim=True).clamp_min(1e-12)
        return plan @ x
