"""Losses that pass over missing labels: an utterance pulls only at the tasks it is labelled for."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor


def task_loss(loss: str, output: Float[Tensor, "batch outputs"], target: Shaped[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Mean loss of one task over the labelled utterances of a batch; 0 (with zero gradients) where there is none.

    Args:
        loss: name of the loss.
        output: logits, or standardised values in one column for regression.
        target: class numbers with -1, or standardised values with NaN, for unlabelled utterances.
    """
    known = ~torch.isnan(target) if target.is_floating_point() else target >= 0
    if not known.any():
        return output.sum() * 0.0
    output, target = output[known], target[known]
    if loss == "cross_entropy":
        if output.shape[1] == 1:  # a binary task's single logit against an implicit zero
            output = torch.cat([torch.zeros_like(output), output], dim=1)
        return F.cross_entropy(output, target)
    column = output[:, 0]
    if loss == "ccc":
        return 1 - _concordance(column, target)
    if loss == "bce":
        return F.binary_cross_entropy_with_logits(column, target.to(column.dtype))
    if loss == "mae":
        return F.l1_loss(column, target)
    mse = F.mse_loss(column, target)
    # The root's gradient is infinite at 0; the offset bounds it and moves the loss by at most 1e-6.
    return torch.sqrt(mse + 1e-12) if loss == "rmse" else mse


def _concordance(first: Float[Tensor, " labelled"], second: Float[Tensor, " labelled"]) -> Float[Tensor, ""]:
    """Lin's concordance correlation coefficient, 2·cov / (var + var + (difference of the means)²), of biased moments.

    0, without a pull, of a single utterance, of which there is no covariance.
    """
    a, b = first - first.mean(), second - second.mean()
    apart = (first.mean() - second.mean()).square()
    # The offset keeps 0/0 away, where neither side varies; targets are standardised, so it moves nothing else.
    return 2 * (a * b).mean() / (a.square().mean() + b.square().mean() + apart + 1e-8)
