"""What a fusion is: the encodings of several views in, one vector out.

A kind of fusion is a module in a file of its own and a line in `registry`; what params.yaml must know of it without
PyTorch is its `section.Kind`. The model asks the module for what it needs and never looks at the name of a kind.

What a fusion must keep, and `tests/trainers/test_fusion_contract.py` holds every one to:

- a row's vector, outside of training, depends on that row alone: alone, among others, in any order;
- whatever it takes from training utterances outside of training it says by `num_support`, and is given back encoded;
- gradients reach every view, and are finite;
- its values do not depend on anything but what it is given, its weights and its section.

Knows no layers, no tasks and no heads.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from strata.trainers.modules.fusions.section import Fusion


@dataclass(frozen=True)
class Encoding:
    """The shape of what a view's encoder gives for an utterance."""

    width: int
    """Of its vector, or of the vector of each position."""
    positions: int | None = None
    """How many; None where there is one vector, [batch, width] and not [batch, positions, width]."""


class ViewFusion(nn.Module, ABC):
    """Several views' encodings to one vector."""

    def __init__(self, how: Fusion, views: Sequence[Encoding]):
        """Builds an untrained fusion.

        Args:
            how: its section.
            views: what each view's encoder gives, in the order of the experiment.

        Raises:
            ValueError: views of a number or shape that it does not take.
        """
        super().__init__()
        self.how, self.views = how, tuple(views)
        exactly = how.num_views
        if len(views) < 2 or len(views) != (exactly or len(views)):
            raise ValueError(f"fusion {how.kind}: expected {exactly or 'two or more'} views, got {len(views)}")
        if any((view.positions is not None) != how.takes_positions for view in views):
            wanted = "positions" if how.takes_positions else "one vector"
            raise ValueError(f"fusion {how.kind}: expected {wanted} of every view, got {list(views)}")

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """Width of the fused vector."""

    def num_support(self, batch_size: int) -> int:
        """How many training utterances it needs beside an utterance outside of training; none, unless it says so.

        Args:
            batch_size: utterances in a batch of training.
        """
        return 0

    def extra_loss(self) -> Tensor | None:
        """What is added to the tasks' losses for the batch that it was last given in training; None for nothing."""
        return None

    @abstractmethod
    def forward(self, *views: Tensor, support: Sequence[Tensor] | None = None) -> Float[Tensor, "batch fused"]:
        """One vector for every utterance.

        Args:
            views: [batch, width], or [batch, positions, width], as `Encoding` says.
            support: the same of `num_support` training utterances, outside of training; None where it needs none.
        """
