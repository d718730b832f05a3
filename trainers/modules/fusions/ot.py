"""Fusion by optimal transport (TANGO §4.1, eqs 1–3): what one view says, carried to where the other says the same.

The paper leaves the points of the transport open. Here they are the positions of a view after the convolution blocks,
and every utterance has a plan of its own, so that a prediction never depends on who else is in the batch.
`support: batch` makes the utterances of a batch the points instead, for comparison.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.trainers.modules.fusions import pot
from strata.trainers.modules.fusions.contract import ViewFusion
from strata.trainers.modules.transport import cost, transport_plan

PLANNED = 1 << 24
"""Entries of plans that are made at a time where every utterance has its own among a batch of others: 64 MB, and a few
times as much beside them; of batches of 4,096 or more one plan."""


class OptimalTransport(ViewFusion):
    """Two gated views, each beside what the other carries to it, flattened into one vector."""

    @property
    def num_outputs(self) -> int:
        """Width of both views' positions and of what is carried to them."""
        of_x1, of_x2 = (view.width * view.positions for view in self.views)
        # Between positions each receives one; between utterances each receives the other's, whole.
        to_x1, to_x2 = (of_x1, of_x2) if self.how.support == "position" else (of_x2, of_x1)
        return of_x1 + of_x2 + to_x1 * self._carries("x2->x1") + to_x2 * self._carries("x1->x2")

    def num_support(self, batch_size: int) -> int:
        """Where utterances are the points, those that take the place of a batch's others."""
        return batch_size - 1 if self.how.support == "batch" else 0

    def forward(
        self,
        x1: Float[Tensor, "batch n channels"],
        x2: Float[Tensor, "batch m channels"],
        support: Sequence[Tensor] | None = None,
    ) -> Float[Tensor, "batch fused"]:
        """Gates, transports and joins the two views.

        Args:
            x1: the first view's positions.
            x2: the second view's.
            support: the same of fixed training utterances, [others, n, channels] and [others, m, channels], for
                `support: batch` outside of training: each utterance is then transported among these alone.
        """
        x1, x2 = nn.functional.silu(x1), nn.functional.silu(x2)  # the paper's gate x·σ(x)
        if self.how.support == "position":
            plan = self._plan(x1, x2)
            to_x1, to_x2 = self._carry(plan, x2), self._carry(plan.mT, x1)
        elif support is None:
            plan = self._plan(x1.mean(1).unsqueeze(0), x2.mean(1).unsqueeze(0))
            to_x1, to_x2 = (
                self._carry(p, x.flatten(1).unsqueeze(0)).squeeze(0) for p, x in ((plan, x2), (plan.mT, x1))
            )
        else:
            to_x1, to_x2 = self._among_others(x1, x2, *map(nn.functional.silu, support))
        sides = [x1, x2]
        sides += [to_x1] if self._carries("x2->x1") else []
        sides += [to_x2] if self._carries("x1->x2") else []
        return torch.cat([side.flatten(1) for side in sides], dim=1)

    def _among_others(self, x1: Tensor, x2: Tensor, others1: Tensor, others2: Tensor) -> tuple[Tensor, Tensor]:
        """What each utterance's views receive in a plan of its own, some utterances at a time."""
        received = []
        for one, two in zip(*(x.split(max(1, PLANNED // (len(others1) + 1) ** 2)) for x in (x1, x2)), strict=True):
            plan = self._plan(_among(one.mean(1), others1.mean(1)), _among(two.mean(1), others2.mean(1)))
            # The utterance itself is the last row and column of its plan.
            to_one = self._receive(plan[:, -1], two.flatten(1), others2.flatten(1))
            to_two = self._receive(plan[:, :, -1], one.flatten(1), others1.flatten(1))
            received.append((to_one, to_two))
        to_x1, to_x2 = (torch.cat(side) for side in zip(*received, strict=True))
        return to_x1, to_x2

    def _carries(self, direction: str) -> bool:
        return self.how.direction in ("both", direction)

    def _plan(self, x1: Tensor, x2: Tensor) -> Tensor:
        # Early stopping looks at the whole batch, so only training uses it: a prediction is one utterance's alone.
        tolerance = self.how.tolerance if self.training else 0.0
        how, costs = self.how, cost(x1, x2)
        if how.solver == "pot":
            return pot.transport_plan(costs, how.epsilon, how.iterations, tolerance, how.regularisation)
        return transport_plan(costs, how.epsilon, how.iterations, tolerance)

    def _carry(
        self, plan: Float[Tensor, "sets n m"], x: Float[Tensor, "sets m channels"]
    ) -> Float[Tensor, "sets n channels"]:
        if self.how.transported == "barycentric":
            plan = plan / plan.sum(2, keepdim=True).clamp_min(1e-12)
        return plan @ x

    def _receive(
        self, mass: Float[Tensor, "batch points"], x: Float[Tensor, "batch dim"], others: Float[Tensor, "others dim"]
    ) -> Float[Tensor, "batch dim"]:
        """What each utterance receives from the others and from itself, the last of the points."""
        if self.how.transported == "barycentric":
            mass = mass / mass.sum(1, keepdim=True).clamp_min(1e-12)
        return mass[:, :-1] @ others + mass[:, -1:] * x


def _among(x: Float[Tensor, "batch dim"], others: Float[Tensor, "others dim"]) -> Float[Tensor, "batch points dim"]:
    """For every utterance the set of the others and itself, itself last."""
    return torch.cat([others.expand(len(x), -1, -1), x.unsqueeze(1)], dim=1)
