"""Every kind of fusion by its name in params.yaml."""

from collections.abc import Sequence

from strata.trainers.modules.fusions.concat import Concatenation
from strata.trainers.modules.fusions.contract import Encoding, ViewFusion
from strata.trainers.modules.fusions.ot import OptimalTransport
from strata.trainers.modules.fusions.section import Fusion

FUSIONS: dict[str, type[ViewFusion]] = {"concat": Concatenation, "ot": OptimalTransport}
"""Those of `section.KINDS`."""


def fusion(how: Fusion, views: Sequence[Encoding]) -> ViewFusion:
    """A fusion that has learned nothing yet: see `ViewFusion`."""
    return FUSIONS[how.kind](how, views)
