"""What one would write first, and what with ordinary care: TANGO's models and training loop from PyTorch's own parts.

The baselines of `benchmarks.heads`, and the oracles of the trainers' fast path: the same layers, batches and updates.

- First: `nn.Conv1d`, autograd through POT's Sinkhorn on logarithms, a `DataLoader`, `torch.optim.Adam` as it comes.
- With care: batches by index, Adam's fused kernel, Sinkhorn in its scaling form under autograd.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from strata.trainers.inputs.data import Targets
from strata.trainers.models.heads import Heads
from strata.trainers.modules.fusions.section import Fusion
from strata.trainers.spec import Experiment


class PlainHeads(nn.Module):
    """The network of a `Heads`, with its weights, for views of one layer each."""

    def __init__(self, heads: Heads, experiment: Experiment, careful: bool = False):
        super().__init__()
        self.experiment, self.careful = experiment, careful
        self.statistics = [view.standardise for view in heads.views]
        self.convolutions = nn.ModuleList(nn.Sequential(*_blocks(view.encoder)) for view in heads.views)
        self.networks = nn.ModuleList(view.network for view in heads.views)
        self.shared, self.heads, self.tasks = heads.shared, heads.heads, heads.tasks

    def forward(self, *features: Tensor) -> dict[str, Tensor]:
        """Every task's outputs from [batch, 1, dim] per view."""
        features = [(x - s.mean) / s.scale for x, s in zip(features, self.statistics, strict=True)]
        encoded = [blocks(x) for blocks, x in zip(self.convolutions, features, strict=True)]
        fusion = self.experiment.fusion
        if fusion is not None and fusion.kind == "ot":
            joined = self._transport(*(x.mT for x in encoded))
        else:
            flat = [network(x.mT.flatten(1)) for network, x in zip(self.networks, encoded, strict=True)]
            joined = torch.cat(flat, dim=1)
        shared = self.shared(joined)
        return {task: head(shared) for task, head in zip(self.tasks, self.heads, strict=True)}

    def _transport(self, x1: Tensor, x2: Tensor) -> Tensor:
        x1, x2 = x1 * torch.sigmoid(x1), x2 * torch.sigmoid(x2)
        distances = torch.cdist(x1, x2)
        costs = distances / distances.amax(dim=(1, 2), keepdim=True)
        plan = (_plan_by_scaling if self.careful else _plan_by_pot)(costs, self.experiment.fusion)
        to_x1 = plan / plan.sum(2, keepdim=True) @ x2
        to_x2 = plan.mT / plan.mT.sum(2, keepdim=True) @ x1
        return torch.cat([x.flatten(1) for x in (x1, x2, to_x1, to_x2)], dim=1)


def _plan_by_pot(costs: Tensor, how: Fusion) -> Tensor:
    from ot.batch import solve_batch

    return solve_batch(
        costs, reg=how.epsilon, method="log_sinkhorn", max_iter=how.iterations, tol=how.tolerance, grad="autodiff"
    ).plan


def _plan_by_scaling(costs: Tensor, how: Fusion) -> Tensor:
    """u ← a / K v and v ← b / Kᵀ u, stopped where `modules.transport` stops."""
    n, m = costs.shape[1:]
    kernel = torch.exp(costs / -how.epsilon)
    v, before = costs.new_ones(len(costs), m, 1), None
    for _ in range(how.iterations):
        u = 1 / (n * (kernel @ v))
        v = 1 / (m * (kernel.mT @ u))
        if before is not None and (before / u.detach() - 1).abs().max() <= how.tolerance:
            break
        before = u.detach()
    return u * kernel * v.mT


def _blocks(encoder: nn.Module):
    for convolution in encoder.convolutions:
        yield from (convolution, nn.ReLU(), nn.MaxPool1d(2, ceil_mode=True))


def fit(
    model: PlainHeads,
    features: Sequence[Tensor],
    labels: Sequence[Tensor],
    targets: Sequence[Targets],
    train: Tensor,
    experiment: Experiment,
    seed: int,
) -> list[float]:
    """Trains for `experiment.epochs` epochs; the mean training loss of each.

    Args:
        model: changed in place; with care, if it was made with care.
        features: each [utterances, 1, dim].
        labels: for each task its targets as the loss takes them, all known.
        targets: the tasks, in the same order.
        train: numbers of the utterances to learn from.
        experiment: batch size, learning rate.
        seed: of the order of the batches.
    """
    criteria = {
        "cross_entropy": nn.functional.cross_entropy,
        "bce": lambda x, y: nn.functional.binary_cross_entropy_with_logits(x[:, 0], y.float()),
        "rmse": lambda x, y: torch.sqrt(nn.functional.mse_loss(x[:, 0], y) + 1e-12),
    }
    known = [*(f[train] for f in features), *(label[train] for label in labels)]
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=experiment.learning_rate, fused=model.careful or None)
    curve = []
    for _ in range(experiment.epochs):
        total = 0.0
        sequence = torch.randperm(len(train), generator=order)
        for batch in (_by_index if model.careful else _by_loader)(known, sequence, experiment.batch_size):
            views, labels = batch[: len(features)], batch[len(features) :]
            answers = model(*views)
            loss = sum(
                target.task.weight * criteria[target.task.effective_loss](answers[target.name], label)
                for target, label in zip(targets, labels, strict=True)
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(labels[0])
        curve.append(total / len(train))
    return curve


def _by_loader(known: Sequence[Tensor], sequence: Tensor, size: int) -> DataLoader:
    return DataLoader(TensorDataset(*known), batch_size=size, sampler=sequence.tolist())


def _by_index(known: Sequence[Tensor], sequence: Tensor, size: int) -> Iterator[list[Tensor]]:
    for rows in sequence.split(size):
        yield [values[rows] for values in known]
