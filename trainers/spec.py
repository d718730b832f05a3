"""What can be asked of a trainer: the sections `tasks`, `experiments` and `eliminate` of params.yaml.

Every choice on which a paper is silent is a field here with this project's default, never a constant in the code.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator


class Section(BaseModel):
    """An immutable section of params.yaml; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Loss = Literal["cross_entropy", "bce", "rmse", "mse", "mae"]
LOSSES = {
    "classification": ("cross_entropy",),
    "binary": ("bce", "cross_entropy"),
    "regression": ("rmse", "mse", "mae"),
}
"""Losses of each kind of task, the default first."""


class Task(Section):
    """One thing to be told about an utterance."""

    kind: Literal["classification", "binary", "regression"]
    label: str | None = None
    """Column of the manifest; the task's own name where not given."""
    loss: Loss | None = None
    weight: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _loss_fits_kind(self):
        if self.loss and self.loss not in LOSSES[self.kind]:
            raise ValueError(f"a {self.kind} task takes the loss {' or '.join(LOSSES[self.kind])}, got {self.loss}")
        return self

    @property
    def effective_loss(self) -> Loss:
        """The loss given, or the kind's default."""
        return self.loss or LOSSES[self.kind][0]


class Folds(Section):
    """How utterances are divided into training, validation and test data."""

    k: int = Field(5, ge=2)
    stratify: str | list[str] | None = None
    """Label, or combination of labels, whose proportions every fold keeps; rare classes go to as many as they can."""
    disjoint: str | None = None
    """Label whose values never appear on both sides of a split, such as speaker (who then cannot be recognised)."""

    given: str | None = None
    """Label that names each utterance's split itself (train, valid, test): one fold, `k` does not apply."""
    validation: float = Field(0.1, gt=0, lt=0.5)
    """Share of a fold's training utterances held out for early stopping."""
    seed: int = 0

    @property
    def labels(self) -> set[str]:
        """The labels that the division depends on."""
        stratify = [self.stratify] if isinstance(self.stratify, str) else self.stratify or []
        return {*stratify, self.disjoint, self.given} - {None}


class Optimisation(Section):
    """How a head is trained; defaults are those of TANGO, appendix 9.1, where it names them."""

    epochs: PositiveInt = 60
    patience: PositiveInt = 10
    """Epochs without a better validation loss after which training stops; the best weights are kept."""
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 1e-3
    l1: float = Field(0.0, ge=0)
    l2: float = Field(0.0, ge=0)


class Fusion(Section):
    """How two or more views become one vector."""

    kind: Literal["concat", "ot"]
    support: Literal["position", "batch"] = "position"
    """Between what mass is transported: the positions of one utterance's two signals, with a plan for every utterance;
    or the utterances of a batch, with one plan for all, which makes an answer depend on who shares the batch."""
    direction: Literal["both", "x1->x2", "x2->x1"] = "both"
    epsilon: float = Field(0.1, ge=1 / 600)
    """Entropic regularisation of the transport plan, on a cost scaled to [0, 1]."""
    iterations: PositiveInt = 50
    tolerance: float = Field(1e-6, ge=0)
    """In training Sinkhorn stops once its scalings change by less; predictions always run all iterations."""
    transported: Literal["barycentric", "literal"] = "barycentric"
    """`literal` is the paper's γ·x; `barycentric` divides by the rows' mass, which keeps the scale of x."""


class Experiment(Optimisation):
    """One named training configuration, cross-validated; with a `grid`, many of them (`trainers.grid`)."""

    corpora: list[str] = []
    """Corpora whose utterances take part; all where none is named."""
    views: list[str] = Field(min_length=1)
    layers: Literal["last", "all"] | list[str | int] = "last"
    """Which cached layers of each view enter; several are averaged with learned weights."""
    encoder: Literal["cnn", "mlp", "linear"] = "cnn"
    channels: list[PositiveInt] = Field([32, 64], min_length=1)
    """Channels of the convolution blocks of `cnn`."""
    hidden: list[PositiveInt] = [200, 64, 56]
    """Widths of every fully connected network."""
    head: PositiveInt = 30
    """Width of a task's own layer, where tasks share a network."""
    fusion: Fusion | None = None
    tasks: list[str] = Field(min_length=1)
    joint: bool = True
    """False trains one model per task (the paper's single-task setup)."""
    folds: Folds = Folds()
    seeds: list[int] = Field([0], min_length=1)
    final: bool = True
    """Whether a model for `strata predict` is trained on all utterances besides; in a large grid it takes room."""
    grid: dict[str, Literal["each", "pairs"] | list] = {}
    """Values that fields of this section take in turn, every combination a cell that is trained for itself."""

    @model_validator(mode="before")
    @classmethod
    def _short_fusion(cls, values):
        if isinstance(values, dict) and isinstance(values.get("fusion"), str):
            values = values | {"fusion": {"kind": values["fusion"]}}
        return values

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
        if (len(self.views) > 1) != (self.fusion is not None):
            raise ValueError("fusion is for two views or more: give both or neither")
        if self.fusion and self.fusion.kind == "ot" and (len(self.views) != 2 or self.encoder != "cnn"):
            raise ValueError("fusion ot takes exactly two views and the encoder cnn, whose positions it transports")
        if self.fusion and self.fusion.support == "batch" and self.batch_size < 2:
            raise ValueError("support batch takes a batch_size of two or more: a batch's utterances are its points")
        return self

    @property
    def setup(self) -> str:
        """What the paper calls this configuration (TANGO §4): the row it belongs to in a comparison."""
        if self.fusion is None:
            return "SVMT" if self.joint and len(self.tasks) > 1 else "SVST"
        name = "MVMT-concat"
        if self.fusion.kind == "ot":
            name = "TANGO" if self.fusion.direction == "both" else f"TANGO {self.fusion.direction}"
            name += ", batch support" if self.fusion.support == "batch" else ""
            name += ", literal" if self.fusion.transported == "literal" else ""
        return name if self.joint else f"{name}, a model per task"


class Elimination(Optimisation):
    """Recursive layer elimination over one view (wavCSE §2.1)."""

    view: str
    tasks: list[str] = Field(min_length=1)
    pooling: Literal["weighted"] = "weighted"
    shared: PositiveInt = 512
    """Width of FC1, shared by the layers."""
    embedding: PositiveInt = 2000
    """Width of FC2, the unified embedding."""
    test: float = Field(0.2, gt=0, lt=0.5)
    """Share of utterances that is only ever scored, never chosen by."""
    folds: Folds = Folds(validation=0.2)
    """How test and validation data are split off; `k` does not apply."""
    seed: int = 0
    batch_size: PositiveInt = 64
    l1: float = Field(1e-7, ge=0)
    l2: float = Field(1e-5, ge=0)
