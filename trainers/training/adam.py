"""Adam, stepped by PyTorch's own function for it.

`torch.optim.Adam` imports the compiler (`torch._dynamo`, SymPy and 800 other modules) when the first one is made: 2 to
3 s of processor time in every process that trains, for nothing that is used here.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Steps parameters by their gradients, with the fused kernel; values are those of `torch.optim.Adam`."""

    betas, eps = (0.9, 0.999), 1e-8

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float, weight_decay: float = 0.0):
        """Nothing is allocated before a parameter's first step.

        Args:
            parameters: what is trained; those without a gradient stay as they are.
            learning_rate: the size of a step.
            weight_decay: times the parameter, added to its gradient.
        """
        self.parameters, self.learning_rate, self.weight_decay = list(parameters), learning_rate, weight_decay
        self.moments: dict[Tensor, tuple[Tensor, Tensor, Tensor]] = {}
        """Of each parameter that was stepped: the gradients' mean and mean square, shaped alike; steps so far, []."""

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step of all parameters that have a gradient, in place."""
        reached = [parameter for parameter in self.parameters if parameter.grad is not None]
        for parameter in reached:
            if parameter not in self.moments:
                steps = torch.zeros((), dtype=torch.float32, device=parameter.device)
                self.moments[parameter] = torch.zeros_like(parameter), torch.zeros_like(parameter), steps
        means, squares, steps = ([self.moments[parameter][place] for parameter in reached] for place in range(3))
        gradients = [parameter.grad for parameter in reached]
        beta1, beta2 = self.betas
        how = {"lr": self.learning_rate, "weight_decay": self.weight_decay, "eps": self.eps}
        off = {"amsgrad": False, "maximize": False}
        adam(reached, gradients, means, squares, [], steps, fused=True, beta1=beta1, beta2=beta2, **how, **off)
