"""The training loop: batches gathered by index from wherever features lie, Adam, early stopping on validation data.

Which utterances make a batch is asked of `inputs.batches`, how the tasks' losses are weighed of `training.balancing`.
"""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from strata.trainers.inputs.batches import batches, gathered
from strata.trainers.inputs.data import Targets, TrainingError
from strata.trainers.inputs.pooled import Pooled, as_pooled
from strata.trainers.spec import Optimisation
from strata.trainers.tasks.losses import task_loss
from strata.trainers.training.adam import Adam
from strata.trainers.training.balancing import BALANCINGS, shared_parameters, weighted_sum

EVALUATION_BATCH = 256


def fit(
    model: nn.Module,
    features: Sequence[Pooled | np.ndarray],
    targets: Sequence[Targets],
    train: np.ndarray,
    valid: np.ndarray,
    how: Optimisation,
    seed: int,
    watch: Callable[[int, float], None] = lambda epoch, valid_loss: None,
) -> list[tuple[int, float, float]]:
    """Trains `model` in place and leaves it with the weights of its best validation epoch.

    Args:
        model: takes one tensor per view, gives one output per task; has `target_mean` and `target_scale` to be fitted,
            and may tell its `shared_parameters()`: see `training.balancing`; and an `extra_loss()` for the batch that
            it was last given, which is added to those of the tasks.
        features: each [utterances, layers, dim], on the CPU; batches go to where the model lies.
        targets: one per task, in the order of `model.tasks`.
        train: utterance numbers to learn from.
        valid: utterance numbers that decide when to stop.
        how: epochs, batches, learning rate, penalties, balancing of the tasks.
        seed: of the order of batches, and of random weights.
        watch: called after every epoch with its number and its validation loss; what it raises ends the training.

    Raises:
        TrainingError: the loss was never finite; or batches too small to be balanced.

    Returns:
        (epoch, training loss, validation loss) of every epoch; losses are sums over the tasks by their own weights,
        whatever the balancing, so that no learned weight decides when to stop and any two trainings can be compared.
    """
    loop = _Loop(model, features, targets, train, how, seed)
    curve, best, best_loss = [], None, np.inf
    for epoch in range(1, how.epochs + 1):
        train_loss, valid_loss = loop.train(), loop.loss(valid)
        curve.append((epoch, train_loss, valid_loss))
        watch(epoch, valid_loss)
        if valid_loss < best_loss:
            best_loss, best = valid_loss, (epoch, copy.deepcopy(model.state_dict()))
        elif best is not None and epoch - best[0] >= how.patience:
            break
    if best is None:
        raise TrainingError(f"training diverged: no finite validation loss in {epoch} epochs; lower learning_rate")
    model.load_state_dict(best[1])
    return curve


class _Loop:
    """One model in training: its targets, batches, balancing and optimisers. See the arguments of `fit`."""

    def __init__(self, model, features, targets, train, how, seed):
        self.model, self.targets, self.how = model, targets, how
        self.features = [as_pooled(view) for view in features]
        self.device = device_of(model)
        self.labels = [label.to(self.device) for label in _scaled(model, targets, train)]
        self.weights = [target.task.weight for target in targets]
        known = np.stack([target.known for target in targets])
        balancing = how.balancing if len(targets) > 1 else "equal"  # a learned weight would scale a task on its own
        self.balancing = BALANCINGS[balancing](self.weights, seed).to(self.device)
        if self.balancing.needs_start:
            with torch.no_grad():
                before = self._losses_of_all(torch.tensor(train))
            self.balancing.start(before, shared_parameters(model))
        self.optimisers = _optimisers(model, self.balancing, how)
        self.batches = batches(how.batches, train, known, how.batch_size, seed, self.features)
        self.known = torch.from_numpy(known)

    def train(self) -> float:
        """One epoch; the mean over its utterances of their batches' losses, before each step."""
        self.model.train()
        total, seen = 0.0, 0
        for rows, values in gathered(self.features, self.batches, self.device):
            losses = self._losses(self.model(*values), rows)
            for optimiser in self.optimisers:
                optimiser.zero_grad()
            _with_extra(self.model, self.balancing(losses, self.known[:, rows].any(1))).backward()
            _add_l1(self.model, self.how.l1)
            for optimiser in self.optimisers:
                optimiser.step()
            total += weighted_sum([loss.detach() for loss in losses], self.weights).item() * len(rows)
            seen += len(rows)
        return total / seen

    @torch.inference_mode()
    def loss(self, rows: np.ndarray) -> float:
        """One loss over all of these: parts would weigh a task by where its labelled utterances happen to lie."""
        return weighted_sum(self._losses_of_all(torch.tensor(rows)), self.weights).item()

    def _losses_of_all(self, rows: Tensor) -> list[Tensor]:
        return self._losses(_outputs(self.model, self.features, rows), rows)

    def _losses(self, found: dict[str, Tensor], rows: Tensor) -> list[Tensor]:
        """Every task's loss, before any weighing."""
        each = zip(self.targets, self.labels, strict=True)
        return [task_loss(target.task.effective_loss, found[target.name], label[rows]) for target, label in each]


@torch.inference_mode()
def outputs(model: nn.Module, features: Sequence[Pooled | np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Every task's outputs for `rows`: logits [rows, outputs], or float64 values in the label's unit [rows, 1]."""
    found = _outputs(model, [as_pooled(view) for view in features], torch.tensor(rows))
    scales = zip(model.tasks, model.target_mean, model.target_scale, strict=True)
    return {task: in_unit(found[task], mean, scale).cpu().numpy() for task, mean, scale in scales}


def in_unit(outputs: Tensor, mean: float | Tensor, scale: float | Tensor) -> Tensor:
    """Inverse of `Targets.scaled` for what a model gives: values in the label's unit, float64; logits as they are."""
    return outputs if (mean, scale) == (0, 1) else outputs.double() * scale + mean


def _outputs(model: nn.Module, features: Sequence[Pooled], rows: Tensor) -> dict[str, Tensor]:
    """The model's outputs for all rows, computed part by part."""
    model.eval()
    given = gathered(features, rows.split(EVALUATION_BATCH), device_of(model))
    found: dict[str, Tensor] = {}
    for start, (_, values) in zip(range(0, len(rows), EVALUATION_BATCH), given, strict=True):
        for task, part in model(*values).items():
            # All of it at once: of many classes, parts that are put together later take twice the memory.
            whole = found.setdefault(task, part.new_empty(len(rows), *part.shape[1:]))
            whole[start : start + len(part)] = part
    return found


def device_of(model: nn.Module) -> torch.device:
    """Where a model lies, and where its batches go."""
    return next(model.parameters()).device


def _scaled(model: nn.Module, targets: Sequence[Targets], train: np.ndarray) -> list[Tensor]:
    """Targets as the losses take them; tells the model the scale of regression targets in the training data."""
    labels = []
    for i, target in enumerate(targets):
        values, model.target_mean[i], model.target_scale[i] = target.scaled(train)
        labels.append(torch.from_numpy(values))
    return labels


def _with_extra(model: nn.Module, loss: Tensor) -> Tensor:
    """The tasks' loss and what the model itself adds to it, if anything."""
    extra = model.extra_loss() if hasattr(model, "extra_loss") else None
    return loss if extra is None else loss + extra


def _optimisers(model: nn.Module, balancing: nn.Module, how: Optimisation) -> list[Adam]:
    """Adam over the model, with λ2 Σw², and over what the balancing learns, without.

    Adam's weight decay adds its factor times w to the gradient, and λ2 Σw² has the derivative 2 λ2 w: the same update
    as by backpropagation, without a pass over all weights.
    """
    optimisers = [Adam(model.parameters(), how.learning_rate, weight_decay=2 * how.l2)]
    if learned := list(balancing.parameters()):
        optimisers.append(Adam(learned, how.learning_rate))
    return optimisers


def _add_l1(model: nn.Module, l1: float) -> None:
    """Adds the derivative of λ1 Σ|w|, λ1 sign(w), to the gradients; what no loss reaches has none, and stays."""
    if l1:
        reached = [parameter for parameter in model.parameters() if parameter.grad is not None]
        gradients = [parameter.grad for parameter in reached]
        with torch.no_grad():
            torch._foreach_add_(gradients, torch._foreach_sign(reached), alpha=l1)
