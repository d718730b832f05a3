"""Models of wavCSE with weighted-average pooling, of one shape, as one: their weights stacked, [models, …].

What `training.together` trains. Each model's values are those of a `models.unified.UnifiedEmbedding` on standardised
layers; none has any influence on another.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from strata.trainers.models.unified import UnifiedEmbedding
from strata.trainers.spec import Elimination, Task
from strata.trainers.tasks.losses import task_loss
from strata.trainers.training.adam import Adam


class Stack:
    """Weights of several models, and the Adam that trains them all."""

    def __init__(
        self,
        how: Elimination,
        shape: tuple[int, int],
        outputs: Mapping[str, int],
        tasks: Sequence[Task],
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
    ):
        """Models as they are before training.

        Args:
            how: optimisation and widths.
            shape: (layers, dim) of what they are given.
            outputs: for each task how many numbers it gives.
            tasks: the same tasks' losses and weights.
            seeds: one for each model.
            device: where they lie.
        """
        self.how, self.outputs_of, self.tasks = how, dict(outputs), tasks
        fresh = {}
        for seed in set(seeds):
            torch.manual_seed(seed)
            fresh[seed] = _weights(UnifiedEmbedding(*shape, how, outputs, "weighted"))
        stacked = {name: torch.stack([fresh[seed][name] for seed in seeds]) for name in fresh[seeds[0]]}
        self._train_these({name: weight.to(device) for name, weight in stacked.items()})

    def step(self, x: Float[Tensor, "models batch layers dim"], labels: Sequence[Tensor]) -> Float[Tensor, " models"]:
        """One step of Adam on one batch of each model.

        Args:
            x: standardised layers of each model's utterances.
            labels: for each task [models, batch]; see `tasks.losses.task_loss`.

        Returns:
            The losses before the step, without penalties.
        """
        losses = self._losses(self._outputs(x), labels)
        self.adam.zero_grad()
        losses.sum().backward()
        if self.how.l1:
            for weight, sign in zip(self.weights.values(), self.signs, strict=True):
                weight.grad.add_(torch.sign(weight.detach(), out=sign), alpha=self.how.l1)
        self.adam.step()
        return losses.detach()

    @torch.inference_mode()
    def losses(self, outputs: Mapping[str, Tensor], labels: Sequence[Tensor]) -> Float[Tensor, " models"]:
        """Each model's loss, of what `outputs` gave: see `step`."""
        return self._losses(outputs, labels)

    @torch.inference_mode()
    def outputs(self, x: Float[Tensor, "models batch layers dim"]) -> dict[str, Float[Tensor, "models batch outputs"]]:
        """Every task's logits, or standardised values."""
        return self._outputs(x)

    def copy_of(self, place: int) -> dict[str, Tensor]:
        """The weights of one model."""
        return {name: weight.detach()[place].clone() for name, weight in self.weights.items()}

    def load(self, models: Sequence[Mapping[str, Tensor]]) -> None:
        """Takes these models' weights for its own."""
        self._train_these({name: torch.stack([model[name] for model in models]) for name in models[0]})

    def keep(self, places: Sequence[int]) -> None:
        """Goes on with some of the models, in the order given."""
        before = {name: self.adam.moments[weight] for name, weight in self.weights.items()}
        self._train_these({name: weight.detach()[places] for name, weight in self.weights.items()})
        for name, weight in self.weights.items():
            mean, square, steps = before[name]
            self.adam.moments[weight] = mean[places], square[places], steps

    def _train_these(self, weights: Mapping[str, Tensor]) -> None:
        self.signs = [torch.empty_like(weight) for weight in weights.values()]
        self.weights = {name: weight.requires_grad_() for name, weight in weights.items()}
        # The derivative of λ2·w² is 2·λ2·w, which is what Adam adds for a decay of 2·λ2.
        self.adam = Adam(self.weights.values(), self.how.learning_rate, weight_decay=2 * self.how.l2)

    def _outputs(self, x: Tensor) -> dict[str, Tensor]:
        w = self.weights
        shares = w["logits"].softmax(1)[:, None].expand(x.shape[:3]).flatten(0, 1)
        bags = torch.arange(shares.numel(), device=x.device).view(
            shares.shape
        )  # a bag of layers per utterance, read where they lie
        pooled = F.embedding_bag(bags, x.flatten(0, 2), mode="sum", per_sample_weights=shares)
        hidden = torch.relu(torch.baddbmm(w["b1"], pooled.unflatten(0, x.shape[:2]), w["w1"].mT))
        # FC2 and the outputs are linear: their weights are multiplied with each other where that is less work.
        if sum(self.outputs_of.values()) < self.how.batch_size:
            bias = torch.baddbmm(w["b3"], w["b2"], w["w3"].mT)
            given = torch.baddbmm(bias, hidden, (w["w3"] @ w["w2"]).mT)
        else:
            given = torch.baddbmm(w["b3"], torch.baddbmm(w["b2"], hidden, w["w2"].mT), w["w3"].mT)
        return dict(zip(self.outputs_of, given.split(list(self.outputs_of.values()), dim=2), strict=True))

    def _losses(self, outputs: Mapping[str, Tensor], labels: Sequence[Tensor]) -> Tensor:
        return sum(
            task.weight * _each(task.effective_loss, output, label)
            for task, output, label in zip(self.tasks, outputs.values(), labels, strict=True)
        )


def _weights(model: UnifiedEmbedding) -> dict[str, Tensor]:
    """A model's weights by the names that a stack gives them; outputs of all tasks below each other."""
    return {
        "logits": model.pooling.logits.detach(),
        "w1": model.shared.weight.detach(),
        "b1": model.shared.bias.detach()[None],
        "w2": model.embedding.weight.detach(),
        "b2": model.embedding.bias.detach()[None],
        "w3": torch.cat([head.weight.detach() for head in model.heads]),
        "b3": torch.cat([head.bias.detach() for head in model.heads])[None],
    }


def _each(loss: str, output: Float[Tensor, "models batch outputs"], label: Tensor) -> Float[Tensor, " models"]:
    """Each model's `task_loss`."""
    if loss != "cross_entropy" or output.shape[2] == 1:
        return torch.stack([task_loss(loss, *one) for one in zip(output, label, strict=True)])
    each = F.cross_entropy(output.flatten(0, 1), label.flatten(), ignore_index=-1, reduction="none")
    return each.view(label.shape).sum(1) / (label >= 0).sum(1).clamp(min=1)
