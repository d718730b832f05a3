"""What can be asked of a trainer: the sections `tasks`, `experiments`, `eliminate`, `tune`, `embed` and `downstream` of
params.yaml.

Every choice on which a paper is silent is a field here with this project's default, never a constant in the code.
"""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from strata.trainers import setups
from strata.trainers.modules.fusions.section import Fusion, takes_positions
from strata.trainers.section import Neutral, ReadIf, Section
from strata.trainers.tasks import KINDS

Pooling = Literal[
    "weighted", "mean", "max", "mixed", "gated", "learned-norm", "log-sum-exp", "smooth-maximum", "auto",
    "self-attention",
]  # fmt: skip
"""Layer-wise poolings: see trainers.modules.poolings."""


class Task(Section):
    """One thing to be told about an utterance."""

    kind: Literal[tuple(KINDS)]
    """What is told: see `trainers.tasks`."""
    label: str | None = None
    """Column of the manifest; the task's own name where not given."""
    corpora: Annotated[list[str], Neutral([])] = Field([])
    """Corpora whose labels count, as where each of several labels a task of its own; all where none is named."""
    loss: str | None = None
    """One of the kind's; its default where not given."""
    metric: str | None = None
    """By what experiments on this task are compared; the kind's default where not given."""
    weight: Annotated[PositiveFloat, Neutral(1.0)] = 1.0

    @model_validator(mode="after")
    def _loss_fits_kind(self):
        kind = KINDS[self.kind]
        if self.metric and self.metric not in kind.metrics:
            raise ValueError(f"a {self.kind} task has the metrics {', '.join(kind.metrics)}, got {self.metric}")
        if self.loss and self.loss not in kind.losses:
            raise ValueError(f"a {self.kind} task takes the loss {' or '.join(kind.losses)}, got {self.loss}")
        return self

    @property
    def effective_loss(self) -> str:
        """The loss given, or the kind's default."""
        return self.loss or KINDS[self.kind].losses[0]

    @property
    def primary(self) -> str:
        """The metric by which experiments on this task are compared."""
        return self.metric or KINDS[self.kind].metrics[0]

    def resolved(self) -> dict[str, object]:
        """See `Section`; with the kind's defaults in the place of what is not given."""
        return super().resolved() | {"loss": self.effective_loss, "metric": self.primary}


class Folds(Section):
    """How utterances are divided into training, validation and test data."""

    k: int = Field(5, ge=2)
    stratify: Annotated[str | list[str] | None, Neutral(None)] = None
    """Label, or combination of labels, whose proportions every fold keeps; rare classes go to as many as they can."""
    disjoint: Annotated[str | None, Neutral(None)] = None
    """Label whose values never appear on both sides of a split, such as speaker (who then cannot be recognised); or
    `audio`, for all segments of a recording. Those that overlap never do."""

    given: Annotated[str | None, Neutral(None)] = None
    """Label that names each utterance's split itself (train, valid, test): one fold. From a corpus that names no
    validation part a share is held out. Utterances without a split are divided by a hash of their audio (or of their
    `disjoint` label), one in `k` is tested; but those that share it with others follow these."""
    validation: float = Field(0.1, gt=0, lt=0.5)
    """Share of a fold's training utterances held out for early stopping."""
    seed: int = 0

    @property
    def labels(self) -> set[str]:
        """The labels that the division depends on."""
        return {*self.stratified, self.disjoint, self.given} - {None}

    def resolved(self) -> dict[str, object]:
        """See `Section`; one label to stratify by is a list of one, and an empty list is none."""
        found = super().resolved()
        found.pop("stratify", None)
        return found | ({"stratify": labels} if (labels := self.stratified) else {})

    @property
    def stratified(self) -> list[str]:
        """The labels whose proportions every fold keeps."""
        return [self.stratify] if isinstance(self.stratify, str) else list(self.stratify or [])


def _shares(how: "Experiment | Elimination") -> bool:
    """Whether several tasks share a model."""
    return getattr(how, "joint", True) and len(how.tasks) > 1


class Optimisation(Section):
    """How a head is trained; defaults are those of TANGO, appendix 9.1, where it names them."""

    epochs: PositiveInt = 60
    patience: PositiveInt = 10
    """Epochs without a better validation loss after which training stops; the best weights are kept."""
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 1e-3
    l1: Annotated[float, Neutral(0.0)] = Field(0.0, ge=0)
    l2: Annotated[float, Neutral(0.0)] = Field(0.0, ge=0)
    """Factors of Σ|w| and Σw² over all weights."""
    balancing: Annotated[Literal["equal", "uncertainty", "gradnorm", "random"], ReadIf(_shares), Neutral("equal")] = (
        "equal"
    )
    """How the losses of tasks that share a model are weighed against each other: see trainers.training.balancing."""
    batches: Annotated[Literal["shuffled", "balanced"], Neutral("shuffled")] = "shuffled"
    """`balanced` gives every task the same share of every batch, however few utterances it is labelled for."""

    @property
    def effective_balancing(self) -> str:
        """The balancing asked for; `equal` where there is nothing to balance."""
        return self.balancing if self.reads("balancing") else "equal"


def _listed(values: object) -> list:
    return values if isinstance(values, list) else []


def _of_encoder(*encoders: str) -> ReadIf:
    """Of a key that only these encoders have."""
    return ReadIf(lambda how: how.encoder in encoders)


class Experiment(Optimisation):
    """One named training configuration, cross-validated; with a `grid`, many of them (`search.grid`)."""

    corpora: Annotated[list[str], Neutral([])] = Field([])
    """Corpora whose utterances take part; all where none is named."""
    views: list[str] = Field(min_length=1)
    layers: Literal["last", "all"] | list[str | int] = "last"
    """Which cached layers of each view enter; several are pooled."""
    pooling: Annotated[Pooling, ReadIf(lambda how: how.pools)] = "weighted"
    """How several layers become one."""
    encoder: Literal["cnn", "mlp", "linear", "unified"] = "mlp"
    """What stands between views and heads. `mlp`: fully connected networks, ahead by a little on pooled features of
    recorded speech (README). `linear`: nothing, each head is one linear layer on the views: a probe. `cnn`: TANGO's
    convolutions over a vector's dimensions, then `mlp`'s networks. `unified`: wavCSE's model, the network that all
    tasks share ending in an embedding. A section that names none, but asks for what only `cnn` has (`channels`, or a
    transport, in its grid too), gets that."""
    channels: Annotated[list[PositiveInt], _of_encoder("cnn")] = Field([32, 64], min_length=1)
    """Channels of the convolution blocks of `cnn`."""
    hidden: Annotated[list[PositiveInt], _of_encoder("cnn", "mlp")] = Field([200, 64, 56])
    """Widths of every fully connected network."""
    head: Annotated[PositiveInt, _of_encoder("cnn", "mlp"), ReadIf(_shares)] = 30
    """Width of a task's own layer, where tasks share a network."""
    shared: Annotated[PositiveInt, _of_encoder("unified")] = 512
    """Of `unified`: width of FC1, through which every layer goes."""
    embedding: Annotated[PositiveInt, _of_encoder("unified")] = 2000
    """Of `unified`: width of FC2, the unified embedding."""
    fusion: Annotated[Fusion | None, Neutral(None)] = None
    tasks: list[str] = Field(min_length=1)
    joint: Annotated[bool, Neutral(True)] = True
    """False trains one model per task (the paper's single-task setup)."""
    folds: Folds = Folds()
    seeds: list[int] = Field([0], min_length=1)
    final: Annotated[bool, Neutral(False)] = True
    """Whether a model for `strata predict` is trained on all utterances besides; in a large grid it takes room."""
    grid: Annotated[dict[str, Literal["each", "pairs"] | list], Neutral({})] = Field({})
    """Values that fields of this section take in turn, every combination a cell that is trained for itself."""

    @model_validator(mode="before")
    @classmethod
    def _short_fusion(cls, values):
        if isinstance(values, dict) and isinstance(values.get("fusion"), str):
            values = values | {"fusion": {"kind": values["fusion"]}}
        return values

    @model_validator(mode="before")
    @classmethod
    def _encoder_that_has_what_is_asked_for(cls, values):
        if cls is not Experiment or not isinstance(values, dict):
            return values
        grid = values.get("grid") if isinstance(values.get("grid"), dict) else {}
        if "encoder" in {*values, *grid}:
            return values
        # All cells of a grid get the same encoder, so that they differ in what the grid varies and in nothing else.
        fusions = [values.get("fusion"), *_listed(grid.get("fusion")), *_listed(grid.get("fusion.kind"))]
        needs_cnn = "channels" in {*values, *grid} or any(map(takes_positions, fusions))
        return values | {"encoder": "cnn"} if needs_cnn else values

    @model_validator(mode="after")
    def _names_once(self):
        for key in ("views", "tasks", "layers", "seeds", "corpora"):
            names = getattr(self, key)
            empty = not names and key != "corpora"
            if not isinstance(names, str) and (empty or len(set(map(str, names))) < len(names)):
                raise ValueError(f"{key} must name at least one, and each once; got {names}")
        return self

    @model_validator(mode="after")
    def _fusion_fits_views(self):
        if self.grid:  # the cells are checked, each for itself
            return self
        if self.encoder == "unified" and (len(self.views) > 1 or not self.joint):
            raise ValueError("encoder unified takes one view, and its tasks together: drop the others, and joint")
        if (len(self.views) > 1) != (self.fusion is not None):
            raise ValueError("fusion is for two views or more: give both or neither")
        if self.fusion:
            self.fusion.check_beside(len(self.views), self.encoder, self.batch_size)
        return self

    @property
    def pools(self) -> bool:
        """Whether layers are pooled: several, or those of a model that always does."""
        return self.encoder == "unified" or self.layers == "all" or (self.layers != "last" and len(self.layers) > 1)

    @property
    def setup(self) -> str:
        """What the paper calls this configuration (TANGO §4): the row it belongs to in a comparison."""
        if self.encoder == "unified":
            return setups.named(setups.WAVCSE, self.pooling)
        if self.fusion is None:
            return setups.SVMT if self.joint and len(self.tasks) > 1 else setups.SVST
        return setups.named(self.fusion.row, "" if self.joint else setups.PER_TASK)


class Elimination(Optimisation):
    """Recursive layer elimination over one view (wavCSE §2.1)."""

    corpora: Annotated[list[str], Neutral([])] = Field([])
    """Corpora whose utterances take part; all where none is named."""
    view: str
    tasks: list[str] = Field(min_length=1)
    pooling: Pooling | list[Pooling] = "weighted"
    """Of several each has an elimination of its own, and the choice is among all rounds of all of them."""
    importance: Literal["weights", "ablation"] | None = None
    """By what the layer that goes is found: its learned weight, which only `weighted` has and which is its default; or
    how much the validation loss rises when it is held at its training mean, the default of all others."""
    shared: PositiveInt = 512
    """Width of FC1, shared by the layers."""
    embedding: PositiveInt = 2000
    """Width of FC2, the unified embedding."""
    folds: Folds = Folds(validation=0.2)
    """In each fold the layers are eliminated anew, by its own training and validation data."""
    seeds: list[int] = Field([0], min_length=1)
    """Models per round; the weights and scores are their means."""
    batch_size: PositiveInt = 64
    l1: float = Field(1e-7, ge=0)
    l2: float = Field(1e-5, ge=0)

    @property
    def poolings(self) -> list[Pooling]:
        """All of them."""
        return [self.pooling] if isinstance(self.pooling, str) else list(self.pooling)

    def importance_of(self, pooling: Pooling) -> str:
        """By what layers go under a pooling."""
        return self.importance or ("weights" if pooling == "weighted" else "ablation")

    def trains_together(self, pooling: Pooling) -> bool:
        """Whether the models of a round can be trained as one stack (`training.together`)."""
        by_weights = pooling == "weighted" and self.importance_of(pooling) == "weights"
        return by_weights and self.effective_balancing == "equal" and self.batches == "shuffled"

    def resolved(self) -> dict[str, object]:
        """See `Section`; with what importance is by, pooling for pooling."""
        importance = {pooling: self.importance_of(pooling) for pooling in self.poolings}
        return super().resolved() | {"pooling": self.poolings, "importance": importance}

    @model_validator(mode="after")
    def _check(self):
        for key in ("tasks", "seeds", "poolings", "corpora"):
            names = getattr(self, key)
            if (not names and key != "corpora") or len(set(names)) < len(names):
                raise ValueError(f"{key.replace('poolings', 'pooling')} must name at least one, and each once")
        if self.importance == "weights" and self.poolings != ["weighted"]:
            raise ValueError("importance weights is for pooling weighted, whose layers have weights; write ablation")
        return self


class Embed(Section):
    """The unified embedding of an experiment's final model, kept for all utterances that its view has."""

    experiment: str
    """One with the encoder `unified`; of a grid the cell, as its folder below results/."""
    corpora: list[str] = Field([])
    """Corpora whose utterances are embedded; all where none is named."""


class Downstream(Experiment):
    """A single-layer model on frozen embeddings (wavCSE §3, phase 2); its views are names of `embed`."""

    encoder: Literal["linear"] = "linear"
    batch_size: PositiveInt = 64
    l1: float = Field(1e-7, ge=0)
    l2: float = Field(1e-5, ge=0)
    final: bool = False

    @model_validator(mode="after")
    def _no_grid(self):
        if self.grid:
            raise ValueError("grid: is for experiments; write one section for each")
        return self


class Verification(Section):
    """Whether two utterances are of one speaker: PLDA on frozen embeddings, scored by the equal error rate."""

    views: list[str] = Field(min_length=1, max_length=1)
    """The name of an `embed`."""
    verify: str
    """Label that a pair of utterances shares or not, such as speaker."""
    corpora: Annotated[list[str], Neutral([])] = Field([])
    """Corpora whose utterances take part; all where none is named."""
    trials: Annotated[str | None, Neutral(None)] = None
    """File of trials, one per line as `0|1 first second`, each an utterance's id or its name within the corpus; all
    pairs of tested utterances where not given."""
    dimensions: PositiveInt = 150
    """To which linear discriminant analysis reduces the embedding before PLDA; fewer where there are fewer speakers."""
    folds: Folds = Folds()
    """Training and validation utterances fit the model, and pairs are those of tested utterances; a list of trials is
    one test, for which all others fit it. With `disjoint` on the label, the speakers tested are ones that PLDA has not
    heard (what the embedding has heard is its experiment's matter)."""


class Range(Section):
    """An interval that a search draws a number from."""

    low: float
    high: float
    log: Annotated[bool, Neutral(False)] = False
    """Whether equal ratios are equally likely, and not equal differences."""
    step: Annotated[PositiveFloat | None, Neutral(None)] = None

    @model_validator(mode="after")
    def _check(self):
        if not self.low < self.high or (self.log and (self.low <= 0 or self.step)):
            raise ValueError("expected low < high, both positive and without step where log is true")
        return self


class Tune(Section):
    """A search over fields of an experiment, by the validation data of its first fold alone."""

    experiment: str
    """Whose section is the starting point."""
    search: Literal["bayesian", "grid", "random"] = "bayesian"
    space: dict[str, Range | list] = Field(min_length=1)
    """What fields take: an interval, or a list of values, as a grid does; `fusion.epsilon` is a field of a field."""
    trials: PositiveInt = 30
    """How many; a grid has as many as there are combinations."""
    prune: Annotated[bool, Neutral(False)] = True
    """Whether a trial ends early whose validation loss is worse than that of most others at its epoch."""
    seed: int = 0

    @model_validator(mode="after")
    def _grid_of_lists(self):
        if self.search == "grid" and any(isinstance(values, Range) for values in self.space.values()):
            raise ValueError("space: a grid takes lists of values; search bayesian takes intervals too")
        return self
