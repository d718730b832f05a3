"""How the losses of several tasks are weighed against each other while a model is trained.

`training.fit` owns one `Balancing` per training: it turns the tasks' losses into the one number to differentiate, and
what it learns on the way is trained beside the model and then forgotten. A task's own weight is a factor of its loss in
all of them. A task without a labelled utterance in a batch, whose loss is 0 with a gradient of 0, is left out of that
step: it takes no share from the others, and nothing is learned about it.

None of them has a say in when training stops: the validation loss is always the sum of the tasks' losses by their own
weights. A learned weight could make that of its own choice small, and no two balancings could be compared.

Knows nothing of batches, labels or what the losses are.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Losses = Sequence[Float[Tensor, ""]]
"""One per task, not stacked: each can be differentiated without a pass through the others' heads."""


def weighted_sum(losses: Losses, weights: Sequence[float]) -> Float[Tensor, ""]:
    """Σ w_t L_t by the tasks' own weights: what decides when training stops, and what training curves show."""
    return sum(weight * loss for weight, loss in zip(weights, losses, strict=True))


class Balancing(nn.Module):
    """What all have in common: the tasks' own weights, and the tasks that are absent."""

    needs_start = False
    """Whether `start` has to be called before the first step."""

    def __init__(self, weights: Sequence[float], seed: int = 0):
        super().__init__()
        self.weights = tuple(weights)

    def start(self, losses: Losses, shared: Sequence[nn.Parameter]) -> None:
        """Is told of the model before its first step.

        Args:
            losses: of every task over all training utterances.
            shared: see `shared_parameters`.
        """

    def forward(self, losses: Losses, present: Bool[Tensor, " tasks"]) -> Float[Tensor, ""]:
        """The number whose gradient is one step's.

        Args:
            losses: of every task over one batch.
            present: which of them the batch has labelled utterances of.
        """
        flags = present.tolist()
        weighted = [weight * loss for weight, loss in zip(self.weights, losses, strict=True)]
        tasks = [task for task, there in enumerate(flags) if there]
        # Added as they are: without any gradient the optimiser would leave out their heads, penalties included.
        absent = sum(loss for loss, there in zip(weighted, flags, strict=True) if not there)
        return self.balanced(tasks, [weighted[task] for task in tasks]) + absent if tasks else absent

    def balanced(self, tasks: Sequence[int], losses: Losses) -> Float[Tensor, ""]:
        """The number to differentiate.

        Args:
            tasks: numbers of the tasks that are present, one or more.
            losses: theirs, by their own weights.
        """
        raise NotImplementedError


class Equal(Balancing):
    """Σ w_t L_t by the tasks' own weights w_t alone (wavCSE §2.3, after Lin & Zhang 2023)."""

    def forward(self, losses: Losses, present: Bool[Tensor, " tasks"]) -> Float[Tensor, ""]:
        """The sum over all tasks, in their order."""
        return weighted_sum(losses, self.weights)


class Uncertainty(Balancing):
    """Σ w_t L_t / (2 e^α_t) + α_t / 2 with learned α, 0 at the start (Kendall, Gal & Cipolla 2018).

    e^α is a task's noise: one whose loss stays large is believed less, and α/2 is the price of not believing it. The α
    of an absent task rests; α/2 alone would drive it down without end.
    """

    def __init__(self, weights: Sequence[float], seed: int = 0):
        super().__init__(weights, seed)
        # A parameter each: Adam lets one without a gradient rest, but goes on moving one whose gradient is 0.
        self.alphas = nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in weights)

    def balanced(self, tasks: Sequence[int], losses: Losses) -> Float[Tensor, ""]:
        """The sum over the tasks that are present."""
        alphas = torch.stack([self.alphas[task] for task in tasks])
        return (torch.stack(list(losses)) / (2 * alphas.exp()) + alphas / 2).sum()


class GradNorm(Balancing):
    """Σ v_t w_t L_t with v learned so that tasks train at similar rates (Chen et al. 2018).

    With W the parameters of the last layer that all tasks share and G_t = ‖∇_W v_t w_t L_t‖, the v descend
    Σ |G_t − Ḡ r_t^a|. Ḡ is the mean of the G, and r_t the ratio of the task's loss to what it was before training, by
    the mean of these ratios; Ḡ r_t^a counts as a constant.

    Unlike there, v is a softmax times the number of tasks, which keeps it positive and its sum where Chen et al. put it
    back after every step; the losses before training are over all training utterances, since over a small first batch
    one may happen to be almost 0; and the optimiser of the model trains v too.
    """

    needs_start = True

    def __init__(self, weights: Sequence[float], seed: int = 0, restoring: float = 1.5):
        super().__init__(weights, seed)
        self.restoring = restoring  # the exponent a
        self.logits = nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in weights)

    def start(self, losses: Losses, shared: Sequence[nn.Parameter]) -> None:
        """Keeps both."""
        before = [weight * loss.detach() for weight, loss in zip(self.weights, losses, strict=True)]
        self.before, self.shared = torch.stack(before).clamp_min(1e-12), list(shared)

    def factors(self, tasks: Sequence[int]) -> Float[Tensor, " present"]:
        """v of some tasks, which add up to their number."""
        return len(tasks) * torch.stack([self.logits[task] for task in tasks]).softmax(0)

    def balanced(self, tasks: Sequence[int], losses: Losses) -> Float[Tensor, ""]:
        """The weighted sum, from which the model learns, and the distance of the norms, from which v does."""
        factors, stacked = self.factors(tasks), torch.stack(list(losses))
        total = (factors.detach() * stacked).sum()
        if len(tasks) == 1:  # nothing to balance, and no other's rate to compare with
            return total
        # v is positive, so G = v ‖∇ w L‖, and no gradient of a gradient has to be taken.
        norms = factors * torch.stack([self._norm(loss) for loss in losses])
        ratios = stacked.detach() / self.before[list(tasks)]
        rates = ratios / ratios.mean().clamp_min(1e-12)
        wanted = norms.detach().mean() * rates**self.restoring
        return total + (norms - wanted).abs().sum()

    def _norm(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """‖∇_W L‖ of one task."""
        gradients = torch.autograd.grad(loss, self.shared, retain_graph=True, allow_unused=True)
        return torch.stack([g.square().sum() for g in gradients if g is not None]).sum().sqrt()


class Random(Balancing):
    """Σ v_t w_t L_t with v from a softmax of standard normals, drawn anew at every step (Lin et al. 2022, RLW).

    A litmus test: what is meant to balance tasks should do better. The softmax is multiplied by the number of tasks,
    so that, as with equal weights, 1 is the mean of v and a penalty on the model's weights keeps its meaning.
    """

    def __init__(self, weights: Sequence[float], seed: int = 0):
        super().__init__(weights, seed)
        self.generator = torch.Generator().manual_seed(seed)

    def balanced(self, tasks: Sequence[int], losses: Losses) -> Float[Tensor, ""]:
        """The sum by new weights."""
        drawn = torch.randn(len(self.weights), generator=self.generator)[list(tasks)]
        return (len(tasks) * drawn.softmax(0).to(losses[0].device) * torch.stack(list(losses))).sum()


BALANCINGS: dict[str, type[Balancing]] = {
    "equal": Equal,
    "uncertainty": Uncertainty,
    "gradnorm": GradNorm,
    "random": Random,
}
"""Every balancing by its name in params.yaml: see `spec.Optimisation.balancing`."""


def shared_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Parameters of the last layer that all tasks of a model share.

    A model tells by a method of this name. Of one that has no such method, or no such layer (heads straight on the
    features), it is all its parameters, of which each task's loss then reaches those of its own head.
    """
    told = model.shared_parameters() if hasattr(model, "shared_parameters") else []
    return list(told) or list(model.parameters())
