"""Transport plans by POT (Flamary et al. 2021), beside the own solver of `modules.transport`, which is faster.

Balanced plans are the own solver's. Others are POT's alone: unbalanced ones, whose marginals a penalty holds to uniform
ones (Chizat et al. 2016), and partial ones, which carry a part of the mass and leave the rest where it is
(Benamou et al. 2015). All in float64, where e^(−1/ε) is far from the smallest number for every ε that is allowed.

The only file that imports POT, and only when a plan is asked for.
"""

import os
from functools import cache
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from strata.trainers.modules.fusions.section import Regularisation

_NO_TENSORFLOW = "POT_BACKEND_DISABLE_TENSORFLOW"


def transport_plan(
    costs: Float[Tensor, "sets n m"],
    epsilon: float,
    iterations: int,
    tolerance: float = 0.0,
    regularisation: Regularisation | None = None,
) -> Float[Tensor, "sets n m"]:
    """Entropic transport plans between uniform marginals; gradients flow through the iterations that were made.

    Args:
        costs: in [0, 1].
        epsilon: entropic regularisation.
        iterations: at most this many.
        tolerance: stop once POT's own measure of the change is smaller: of balanced plans that of the marginals of all
            pairs of sets, else that of each pair. 0 makes all iterations, so that each plan follows from its own costs.
        regularisation: what takes the place of the marginals; they are kept where not given.
    """
    exact = costs.double()
    if regularisation is None:
        found = _pot().batch.solve_batch(
            exact, reg=epsilon, method="log_sinkhorn", max_iter=iterations, tol=tolerance, grad="autodiff"
        )
        return found.plan.to(costs.dtype)
    one = _unbalanced if regularisation.unbalanced is not None else _partial
    return torch.stack([one(c, epsilon, iterations, tolerance, regularisation) for c in exact]).to(costs.dtype)


def _unbalanced(costs: Tensor, epsilon: float, iterations: int, tolerance: float, how: Regularisation) -> Tensor:
    """POT's plan of one pair of sets under Kullback-Leibler penalties of both marginals."""
    return _pot().unbalanced.sinkhorn_unbalanced(
        *_uniform(costs), costs, epsilon, how.unbalanced, numItermax=iterations, stopThr=tolerance
    )


def _partial(costs: Tensor, epsilon: float, iterations: int, tolerance: float, how: Regularisation) -> Tensor:
    """POT's plan of one pair of sets that carries a part of the mass, which is 1."""
    part = costs.new_tensor(how.partial)
    return _pot().partial.entropic_partial_wasserstein_logscale(
        *_uniform(costs), costs, epsilon, part, numItermax=iterations, stopThr=tolerance
    )


def _uniform(costs: Tensor) -> tuple[Tensor, Tensor]:
    n, m = costs.shape
    return costs.new_full((n,), 1 / n), costs.new_full((m,), 1 / m)


@cache
def _pot() -> ModuleType:
    """POT, without TensorFlow: it imports what is installed of its backends (8 s, 0.9 GB) unless told not to."""
    before = os.environ.get(_NO_TENSORFLOW)
    os.environ[_NO_TENSORFLOW] = "1"
    try:
        import ot
        import ot.batch
        import ot.partial
        import ot.unbalanced
    finally:
        if before is None:
            del os.environ[_NO_TENSORFLOW]
        else:
            os.environ[_NO_TENSORFLOW] = before
    return ot
