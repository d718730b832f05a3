"""The training loop: index batches over features that lie in memory, Adam, early stopping on validation data."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trainers.data import Targets, TrainingError
from trainers.losses import task_loss
from trainers.spec import Optimisation

EVALUATION_BATCH = 256


def fit(
    model: nn.Module,
    features: Sequence[Tensor],
    targets: Sequence[Targets],
    train: np.ndarray,
    valid: np.ndarray,
    how: Optimisation,
    seed: int,
    watch: Callable[[int, float], None] = lambda epoch, valid_loss: None,
) -> list[tuple[int, float, float]]:
    """Trains `model` in place and leaves it with the weights of its best validation epoch.

    Args:
        model: takes one tensor per view, gives one output per task; has `target_mean` and `target_scale` to be fitted.
        features: each [utterances, layers, dim].
        targets: one per task, in the order of `model.tasks`.
        train: utterance numbers to learn from.
        valid: utterance numbers that decide when to stop.
        how: epochs, batch size, learning rate, penalties.
        seed: of the order of batches.
        watch: called after every epoch with its number and its validation loss; what it raises ends the training.

    Raises:
        TrainingError: the loss was never finite.

    Returns:
        (epoch, training loss, validation loss) of every epoch; losses are weighted sums over the tasks.
    """
    goals = _scaled(model, targets, train)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=how.learning_rate, fused=True)
    train_rows, valid_rows = torch.from_numpy(train), torch.from_numpy(valid)
    curve, best, best_loss = [], None, np.inf
    for epoch in range(1, how.epochs + 1):
        model.train()
        total = 0.0
        for rows in train_rows[torch.randperm(len(train_rows), generator=generator)].split(how.batch_size):
            loss = _loss(model(*(f[rows] for f in features)), targets, goals, rows)
            optimiser.zero_grad(set_to_none=True)
            (loss + _penalty(model, how)).backward()
            optimiser.step()
            total += loss.item() * len(rows)
        with torch.inference_mode():
            # One loss over all of them: parts would weigh a task by where its labelled utterances happen to lie.
            valid_loss = _loss(_answers(model, features, valid_rows), targets, goals, valid_rows).item()
        curve.append((epoch, total / len(train_rows), valid_loss))
        watch(epoch, valid_loss)
        if valid_loss < best_loss:
            best_loss, best = valid_loss, (epoch, copy.deepcopy(model.state_dict()))
        elif best is not None and epoch - best[0] >= how.patience:
            break
    if best is None:
        raise TrainingError(f"training diverged: no finite validation loss in {epoch} epochs; lower learning_rate")
    model.load_state_dict(best[1])
    return curve


@torch.inference_mode()
def outputs(model: nn.Module, features: Sequence[Tensor], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Every task's answers for `rows`: logits [rows, outputs], or values in the label's unit [rows, 1]."""
    answers = _answers(model, features, torch.from_numpy(rows))
    scales = zip(model.tasks, model.target_mean, model.target_scale, strict=True)
    return {task: (answers[task] * scale + mean).numpy() for task, mean, scale in scales}


def _answers(model: nn.Module, features: Sequence[Tensor], rows: Tensor) -> dict[str, Tensor]:
    """The model's outputs for all rows, computed part by part."""
    model.eval()
    parts = [model(*(f[part] for f in features)) for part in rows.split(EVALUATION_BATCH)]
    return {task: torch.cat([part[task] for part in parts]) for task in model.tasks}


def _scaled(model: nn.Module, targets: Sequence[Targets], train: np.ndarray) -> list[Tensor]:
    """Targets as the losses take them; fits the scale of regression targets on the training data."""
    goals = []
    for i, target in enumerate(targets):
        values = target.values
        if target.task.kind == "regression":
            known = values[train][target.known[train]].astype(np.float64)
            mean, sd = (known.mean(), known.std()) if len(known) else (0.0, 1.0)
            model.target_mean[i], model.target_scale[i] = mean, sd if sd > 1e-8 else 1.0
            values = ((values - mean) / model.target_scale[i].item()).astype(np.float32)
        goals.append(torch.from_numpy(values))
    return goals


def _loss(answers: dict[str, Tensor], targets, goals, rows) -> Tensor:
    return sum(
        target.task.weight * task_loss(target.task.effective_loss, answers[target.name], goal[rows])
        for target, goal in zip(targets, goals, strict=True)
    )


def _penalty(model: nn.Module, how: Optimisation) -> Tensor | float:
    """λ1·Σ|w| + λ2·Σw² over all weights."""
    penalty = 0.0
    if how.l1:
        penalty = penalty + how.l1 * sum(p.abs().sum() for p in model.parameters())
    if how.l2:
        penalty = penalty + how.l2 * sum(p.square().sum() for p in model.parameters())
    return penalty
