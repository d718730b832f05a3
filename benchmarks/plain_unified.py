"""What one would write first: wavCSE's model and training loop from PyTorch's own parts.

The baseline of `benchmarks.elimination`: FC1 on every layer, the weighted average
after it, FC2, one output per task, a `DataLoader`, penalties by autograd, Adam as it comes, one model at a time.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from strata.trainers.folds import Fold
from strata.trainers.inputs.data import Targets
from strata.trainers.models.unified import UnifiedEmbedding
from strata.trainers.spec import Elimination


class PlainUnified(nn.Module):
    """The network of a `UnifiedEmbedding` with weighted-average pooling, with its weights."""

    def __init__(self, model: UnifiedEmbedding):
        super().__init__()
        self.shared, self.embedding, self.heads, self.tasks = model.shared, model.embedding, model.heads, model.tasks
        self.logits = model.pooling.logits

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Every task's outputs from standardised layers [batch, layers, dim]."""
        averaged = (self.shared(x) * self.logits.softmax(0)[:, None]).sum(1)
        embedded = self.embedding(torch.relu(averaged))
        return {task: head(embedded) for task, head in zip(self.tasks, self.heads, strict=True)}


def train(
    how: Elimination, targets: Sequence[Targets], values: np.ndarray, fold: Fold, layers: Sequence[int], seed: int
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Trains one model on classes; its layers' weights, and the training and validation loss of every epoch.

    Args:
        how: epochs, batch size, learning rate, penalties, widths; it does not stop early.
        targets: classification tasks, all known.
        values: float32 [utterances, layers, dim].
        fold: training and validation utterances.
        layers: numbers of the layers that it sees.
        seed: of weights and batches.
    """
    torch.manual_seed(seed)
    shape = len(layers), values.shape[2]
    sizes = {target.name: target.num_outputs for target in targets}
    model = PlainUnified(UnifiedEmbedding(*shape, how, sizes, "weighted"))
    chosen = values[:, layers]
    mean, sd = chosen[fold.train].mean(0), chosen[fold.train].std(0)
    x = torch.from_numpy((chosen - mean) / sd)
    labels = [torch.from_numpy(target.values) for target in targets]
    data = TensorDataset(x[fold.train], *(label[fold.train] for label in labels))
    held_out = x[fold.valid], *(label[fold.valid] for label in labels)
    optimiser = torch.optim.Adam(model.parameters(), lr=how.learning_rate)
    order = torch.Generator().manual_seed(seed)

    def loss_of(x: Tensor, *labels: Tensor) -> Tensor:
        answers = model(x)
        losses = zip(targets, labels, strict=True)
        return sum(
            target.task.weight * nn.functional.cross_entropy(answers[target.name], label) for target, label in losses
        )

    curve = []
    for _ in range(how.epochs):
        total = 0.0
        sampler = torch.randperm(len(data), generator=order).tolist()
        for batch in DataLoader(data, batch_size=how.batch_size, sampler=sampler):
            loss = loss_of(*batch)
            l1 = sum(weight.abs().sum() for weight in model.parameters())
            l2 = sum(weight.square().sum() for weight in model.parameters())
            optimiser.zero_grad()
            (loss + how.l1 * l1 + how.l2 * l2).backward()
            optimiser.step()
            total += loss.item() * len(batch[0])
        with torch.no_grad():
            curve.append((total / len(data), loss_of(*held_out).item()))
    return model.logits.detach().softmax(0).numpy(), curve
