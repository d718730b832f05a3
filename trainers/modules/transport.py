"""Optimal transport between two sets of points: costs and entropic plans, for many pairs of sets at once.

Sinkhorn's iteration in its scaling form, u ← a / K v and v ← b / Kᵀ u with K = e^(−cost/ε): the same iterates as in the
log domain, at a product of a matrix and a vector per half step instead of a logarithm of sums of exponentials. It can
neither overflow nor underflow here, since costs lie in [0, 1]: K is at least e^(−1/ε), the potentials ε log u and
ε log v at most 1 in size, and the number format is chosen so that e^(±1/ε) fits.

Knows nothing of views or models. Source: Cuturi 2013; TANGO §4.1, eq. 3 for the cost. Oracle in the tests: POT.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_EPSILON = 1 / 600
"""e^(1/ε) of a smaller one does not fit into a float64 with room for the gradients beside it."""
_SMALLEST_IN_FLOAT32 = 1 / 80


def cost(x1: Float[Tensor, "sets n dim"], x2: Float[Tensor, "sets m dim"]) -> Float[Tensor, "sets n m"]:
    """Euclidean distances between the points of two sets, scaled to [0, 1] by the largest of the pair of sets."""
    return _Cost.apply(x1, x2)


def transport_plan(
    costs: Float[Tensor, "sets n m"], epsilon: float, iterations: int, tolerance: float = 0.0
) -> Float[Tensor, "sets n m"]:
    """Entropic transport plans with uniform marginals; gradients flow through the iterations that were made.

    Args:
        costs: in [0, 1].
        epsilon: entropic regularisation, at least `SMALLEST_EPSILON`.
        iterations: at most this many.
        tolerance: stop once no u of any pair of sets changes by a larger part of itself; 0 makes all iterations, so
            that each plan is a function of its own costs alone.
    """
    return _Sinkhorn.apply(costs, epsilon, iterations, tolerance)


class _Cost(torch.autograd.Function):
    """Distances by one matrix product, and their derivative by hand, in few passes over the matrix."""

    @staticmethod
    def forward(ctx, x1: Tensor, x2: Tensor) -> Tensor:
        # Distances do not change when both sets are moved, but their rounding does: it grows with the points' norms.
        centre = torch.cat([x1, x2], 1).mean(1, keepdim=True)
        x1, x2 = x1 - centre, x2 - centre
        norms1, norms2 = x1.square().sum(-1, keepdim=True), x2.square().sum(-1).unsqueeze(1)
        distances = torch.baddbmm(norms1, x1, x2.mT, alpha=-2).add_(norms2)
        # Squares below this are rounding, of points that coincide as far as one can tell.
        noise = 4 * torch.finfo(x1.dtype).eps * (norms1.amax(1, keepdim=True) + norms2.amax(2, keepdim=True))
        noise.clamp_min_(1e-12)
        distances = torch.maximum(distances, noise).sqrt_()
        largest, place = distances.flatten(1).max(1)
        least = noise.sqrt() / largest[:, None, None] * (1 + 1e-5)
        costs = distances.div_(largest[:, None, None])
        ctx.save_for_backward(x1, x2, costs, largest, place, least)
        return costs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        """The largest distance scales all others of its pair of sets, so their gradients meet in it."""
        x1, x2, costs, largest, place, least = ctx.saved_tensors
        by_distance = grad / largest[:, None, None]
        by_largest = -torch.linalg.vecdot(by_distance.flatten(1), costs.flatten(1))
        by_distance.flatten(1).scatter_add_(1, place[:, None], by_largest[:, None])
        # Of |x1 − x2|: (x1 − x2) / |x1 − x2|; points that coincide have no direction to each other.
        by_distance.div_(costs).div_(largest[:, None, None]).mul_(costs > least)
        by_x1 = by_distance.sum(2, keepdim=True) * x1 - by_distance @ x2
        by_x2 = by_distance.sum(1).unsqueeze(2) * x2 - by_distance.mT @ x1
        return by_x1, by_x2


class _Sinkhorn(torch.autograd.Function):
    """The iteration, and its derivative by hand: autograd would keep a matrix per half step, this keeps vectors.

    NumPy multiplies: its product of many matrices with one vector each is three times as fast as `torch.bmm` here.
    """

    @staticmethod
    @np.errstate(invalid="ignore")  # BLAS now and then raises the flag over lanes beyond the end of a sound vector
    def forward(ctx, costs: Tensor, epsilon: float, iterations: int, tolerance: float) -> Tensor:
        wide = costs.dtype == torch.float64 or epsilon < _SMALLEST_IN_FLOAT32
        kernel = np.exp(costs.detach().to(torch.float64 if wide else torch.float32).cpu().numpy() * (-1 / epsilon))
        n, m = kernel.shape[1:]
        # All u and v of the way; v starts at 1.
        us, vs = [], [np.ones((len(kernel), m, 1), kernel.dtype)]
        for _ in range(iterations):
            us.append(1 / (n * (kernel @ vs[-1])))
            vs.append(1 / (m * (kernel.swapaxes(1, 2) @ us[-1])))
            if tolerance and len(us) > 1 and np.abs(us[-2] / us[-1] - 1).max() <= tolerance:
                break
        plan = kernel * us[-1] * vs[-1].swapaxes(1, 2)
        ctx.epsilon, ctx.way = epsilon, (kernel, us, vs)
        plan = torch.from_numpy(plan).to(costs)
        ctx.save_for_backward(plan)
        return plan

    @staticmethod
    @torch.autograd.function.once_differentiable
    @np.errstate(invalid="ignore")
    def backward(ctx, grad: Tensor):
        """Reverse through log plan = log u + log K + log v, log v_t = −log(m Kᵀ u_t), log u_t = −log(n K v_{t−1})."""
        kernel, us, vs = ctx.way
        (plan,) = ctx.saved_tensors
        n, m = kernel.shape[1:]
        along_plan = (grad * plan).cpu().numpy().astype(kernel.dtype)
        by_u, by_v = along_plan.sum(2, keepdims=True), along_plan.sum(1)[:, :, None]
        rows, columns = [], []  # dK = Σ of outer products, one per half step: one matrix product at the end
        for u, v, v_before in zip(reversed(us), reversed(vs[1:]), reversed(vs[:-1]), strict=True):
            by_sum = -m * by_v * v
            rows.append(u), columns.append(by_sum)
            by_u = by_u + (kernel @ by_sum) * u
            by_sum = -n * by_u * u
            rows.append(by_sum), columns.append(v_before)
            by_v, by_u = (kernel.swapaxes(1, 2) @ by_sum) * v_before, 0.0
        outer = np.concatenate(rows, 2) @ np.concatenate(columns, 2).swapaxes(1, 2)
        outer *= kernel
        outer += along_plan
        outer *= -1 / ctx.epsilon
        return torch.from_numpy(outer).to(grad), None, None, None
