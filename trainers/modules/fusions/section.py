"""The section `fusion` of an experiment, and what is known of every kind of fusion before PyTorch is there.

A further kind is a `Kind` here, with its keys in `Fusion` (each read by that kind alone), a file beside this one that
keeps `contract.ViewFusion`, and a line in `registry`.
"""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from strata.trainers import setups
from strata.trainers.section import Neutral, ReadIf, Section
from strata.trainers.suggestion import nearest

LEAST_EPSILON_OF_UNBALANCED = 0.004
"""POT multiplies by e^(1/ε) there, and in gradients by its square: those of a smaller one are not finite in float64."""
_OfTransport = ReadIf(lambda fusion: fusion.kind == "ot")


class Regularisation(Section):
    """What a transport plan is held to in the place of uniform marginals: one of the two."""

    unbalanced: PositiveFloat | None = None
    """Factor of the marginals' Kullback-Leibler divergence from uniform ones: the larger, the nearer to those."""
    partial: float | None = Field(None, gt=0, lt=1)
    """Share of the mass that is carried; the rest stays where it is."""

    @model_validator(mode="after")
    def _one(self):
        if (self.unbalanced is None) == (self.partial is None):
            raise ValueError("expected one of unbalanced and partial, such as {unbalanced: 1.0} or {partial: 0.8}")
        return self


class Fusion(Section):
    """How two or more views become one vector."""

    kind: str
    """`concat`, or `ot`: optimal transport."""
    support: Annotated[Literal["position", "batch"], _OfTransport] = "position"
    """Between what mass is transported: the positions of one utterance's two signals, with a plan for every utterance;
    or the utterances of a batch, with one plan for all, which makes a prediction depend on who shares the batch."""
    direction: Annotated[Literal["both", "x1->x2", "x2->x1"], _OfTransport] = "both"
    epsilon: Annotated[float, _OfTransport] = Field(0.1, ge=1 / 600)
    """Entropic regularisation of the transport plan, on a cost scaled to [0, 1]."""
    iterations: Annotated[PositiveInt, _OfTransport] = 50
    tolerance: Annotated[float, _OfTransport, Neutral(0.0)] = Field(1e-6, ge=0)
    """In training the solver stops once its scalings change by less (POT: by its own measure); predictions always run
    all iterations."""
    transported: Annotated[Literal["barycentric", "literal"], _OfTransport] = "barycentric"
    """`literal` is the paper's γ·x; `barycentric` divides by the rows' mass, which keeps the scale of x."""

    solver: Annotated[Literal["sinkhorn", "pot"], _OfTransport, Neutral("sinkhorn")] = "sinkhorn"
    """What makes the plans: this project's iteration, or POT, slower."""
    regularisation: Annotated[Regularisation | None, _OfTransport, Neutral(None)] = None
    """Of plans by `pot`: unbalanced or partial ones."""

    @field_validator("kind")
    @classmethod
    def _kind_is_known(cls, kind: str) -> str:
        if kind not in KINDS:
            close = nearest(kind, KINDS)
            hint = f", did you mean {close}?" if close else ""
            raise ValueError(f"expected a fusion of {', '.join(KINDS)}, got {kind!r}{hint}")
        return kind

    @model_validator(mode="after")
    def _check(self):
        self._kind.check(self)
        return self

    @property
    def _kind(self) -> "Kind":
        return KINDS[self.kind]

    @property
    def num_views(self) -> int | None:
        """How many views it takes; None where any two or more will do."""
        return self._kind.num_views

    @property
    def takes_positions(self) -> bool:
        """Whether it fuses the views' positions, and not one vector of each."""
        return self._kind.positions

    @property
    def row(self) -> str:
        """The row of a comparison that its experiments belong to."""
        return self._kind.row(self)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that compute it, by their names in `trainers.revisions`."""
        return self._kind.parts(self)

    def check_beside(self, num_views: int, encoder: str, batch_size: int) -> None:
        """Holds it to the experiment that it is part of.

        Raises:
            ValueError: it takes other numbers of views, another encoder, or larger batches.
        """
        exactly = self.num_views
        if num_views < 2 or num_views != (exactly or num_views) or (self.takes_positions and encoder != "cnn"):
            views = f"exactly {exactly} views" if exactly else "two views or more"
            positions = " and the encoder cnn, whose positions it fuses" if self.takes_positions else ""
            raise ValueError(f"fusion {self.kind} takes {views}{positions}; got {num_views}, encoder {encoder}")
        self._kind.check_batch(self, batch_size)


class Kind:
    """What is known of a kind of fusion without its module."""

    num_views: int | None = None
    """How many it takes; two or more where not given."""
    positions = False
    """Whether it takes the views' positions, which only the encoder `cnn` leaves, and not one vector of each."""

    def row(self, how: Fusion) -> str:
        """See `Fusion.row`."""
        return how.kind

    def parts(self, how: Fusion) -> tuple[str, ...]:
        """See `Fusion.parts`."""
        return (f"fusion {how.kind}",)

    def check(self, how: Fusion) -> None:
        """Refuses keys that do not go together.

        Raises:
            ValueError: in one line, what is expected instead.
        """

    def check_batch(self, how: Fusion, batch_size: int) -> None:
        """Refuses batches that it cannot train on.

        Raises:
            ValueError: in one line, what is expected instead.
        """


class Concat(Kind):
    """The views' vectors beside each other (TANGO §4, MVMT with concatenation)."""

    def row(self, how: Fusion) -> str:
        """See `Fusion.row`."""
        return setups.CONCAT


class Transport(Kind):
    """Optimal transport between the positions of two views (TANGO §4.1)."""

    num_views = 2
    positions = True

    def row(self, how: Fusion) -> str:
        """See `Fusion.row`; by what sets it apart from the paper's."""
        base = {"both": setups.TANGO, "x1->x2": setups.FORTH, "x2->x1": setups.BACK}[how.direction]
        support = "batch support" if how.support == "batch" else ""
        literal = "literal" if how.transported == "literal" else ""
        plans = how.regularisation.model_dump(exclude_none=True) if how.regularisation else {}
        plans = [f"{kind} {value:g}" for kind, value in plans.items()]
        return setups.named(base, support, literal, "POT" if how.solver == "pot" else "", *plans)

    def parts(self, how: Fusion) -> tuple[str, ...]:
        """See `Fusion.parts`."""
        return (f"fusion {how.kind}", *(("plans by POT",) if how.solver == "pot" else ()))

    def check(self, how: Fusion) -> None:
        """See `Kind`."""
        if how.regularisation is not None and how.solver != "pot":
            raise ValueError("regularisation is for plans by POT, which alone makes unbalanced ones: write solver: pot")
        if how.regularisation and how.regularisation.unbalanced and how.epsilon < LEAST_EPSILON_OF_UNBALANCED:
            least = LEAST_EPSILON_OF_UNBALANCED
            raise ValueError(f"unbalanced plans take an epsilon of at least {least}, got {how.epsilon:g}: raise it")

    def check_batch(self, how: Fusion, batch_size: int) -> None:
        """See `Kind`."""
        if how.support == "batch" and batch_size < 2:
            raise ValueError("support batch takes a batch_size of two or more: a batch's utterances are its points")


KINDS: dict[str, Kind] = {"concat": Concat(), "ot": Transport()}
"""Every kind of fusion by its name in params.yaml."""


def kinds_that_read(key: str) -> list[str]:
    """The kinds of fusion that look at a key of the section."""
    return [kind for kind in KINDS if Fusion(kind=kind).reads(key)]


def takes_positions(fusion: object) -> bool:
    """Whether a fusion, as a section or in short, is of a kind that takes positions; False where it is none at all."""
    kind = fusion.get("kind") if isinstance(fusion, dict) else getattr(fusion, "kind", fusion)
    return isinstance(kind, str) and kind in KINDS and KINDS[kind].positions
