"""What one would write first: TANGO's models and training loop from PyTorch's and POT's own parts.

The baseline of `benchmarks.heads`, and the oracle of the trainers' fast path: the same layers, batches and updates,
with nothing done for speed: `nn.Conv1d`, autograd through POT's Sinkhorn on logarithms, a `DataLoader`,
`torch.optim.Adam` as it comes, one fold at a time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from strata.trainers.inputs.data import Targets
from strata.trainers.models.heads import Heads
from strata.trainers.spec import Experiment


class PlainHeads(nn.Module):
    """The network of a `Heads`, with its weights, for views of one layer each."""

    def __init__(self, heads: Heads, experiment: Experiment):
        super().__init__()
        self.experiment = experiment
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
        from ot.batch import solve_batch

        fusion = self.experiment.fusion
        x1, x2 = x1 * torch.sigmoid(x1), x2 * torch.sigmoid(x2)
        distances = torch.cdist(x1, x2)
        plan = solve_batch(
            distances / distances.amax(dim=(1, 2), keepdim=True),
            reg=fusion.epsilon,
            method="log_sinkhorn",
            max_iter=fusion.iterations,
            tol=fusion.tolerance,
            grad="autodiff",
        ).plan
        to_x1 = plan / plan.sum(2, keepdim=True) @ x2
        to_x2 = plan.mT / plan.mT.sum(2, keepdim=True) @ x1
        return torch.cat([x.flatten(1) for x in (x1, x2, to_x1, to_x2)], dim=1)


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
        model: changed in place.
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
    data = TensorDataset(*(f[train] for f in features), *(label[train] for label in labels))
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=experiment.learning_rate)
    curve = []
    for _ in range(experiment.epochs):
        total = 0.0
        sampler = torch.randperm(len(data), generator=order).tolist()
        for batch in DataLoader(data, batch_size=experiment.batch_size, sampler=sampler):
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
        curve.append(total / len(data))
    return curve
