"""Fusion by concatenation: the views' vectors beside each other (TANGO §4, MVMT with concatenation)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from strata.trainers.modules.fusions.contract import ViewFusion


class Concatenation(ViewFusion):
    """All views' vectors in the order of the experiment."""

    @property
    def num_outputs(self) -> int:
        """The sum of the views' widths."""
        return sum(view.width for view in self.views)

    def forward(
        self, *views: Float[Tensor, "batch _"], support: Sequence[Tensor] | None = None
    ) -> Float[Tensor, "batch fused"]:
        """See `ViewFusion`."""
        return torch.cat(views, dim=1)
