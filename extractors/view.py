"""A view: what the `views` section of params says about one extractor, checked before anything is loaded.

One model per family, told apart by `family`. `View` is their union, fit as a pydantic field type. Knows nothing of the
checkpoints themselves: whether a layer exists is for the extractor to say.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from strata.extractors.contract import ViewError
from strata.extractors.section import Section
from strata.extractors.suggestion import suggestion

LAST_HIDDEN_STATE = "last_hidden_state"
"""Name of the output after the final layer norm, which stable-layer-norm models keep apart from their last layer."""


class Upto(Section):
    """The layers 0 … `upto`; the model is cut after the last of them."""

    upto: int = Field(ge=0)
    """Highest layer that is kept."""


Layer = Annotated[int, Field(ge=0, strict=True)] | Literal["last_hidden_state"]
"""One hidden state: its number, or `last_hidden_state`."""


def _check_layers(value: object) -> object:
    if value == "all" or isinstance(value, Upto):
        return value
    if isinstance(value, Mapping) and value.keys() == {"upto"}:
        return Upto.model_validate(value)
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected all, {{upto: N}} or a list such as [0, 3, {LAST_HIDDEN_STATE}], got {value!r}")
    return _check_names(value)


def _check_names(value: object) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list of layers such as [0, 3, {LAST_HIDDEN_STATE}], got {value!r}")
    for name in value:
        if name != LAST_HIDDEN_STATE and (not isinstance(name, int) or isinstance(name, bool) or name < 0):
            raise ValueError(f"expected a layer number from 0 or {LAST_HIDDEN_STATE}, got {name!r}")
    if len(set(value)) != len(value):
        raise ValueError(f"expected each layer once, got {list(value)}")
    # The order says nothing, so it must not make another view: ascending, and what comes after all layers last.
    return tuple(sorted(value, key=lambda name: float("inf") if name == LAST_HIDDEN_STATE else name))


class TransformersView(Section):
    """A speech model of Hugging Face transformers."""

    family: Literal["transformers"]
    source: str
    """Hub id, local directory, or `miniature:<name>`."""
    revision: str | None = None
    """Branch, tag or commit of a hub source; None means its main branch."""
    layers: Annotated[Literal["all"] | Upto | tuple[Layer, ...], BeforeValidator(_check_layers)] = "all"
    """Hidden states that are pooled and kept; a list is held in ascending order, `last_hidden_state` at its end."""
    frames: Annotated[tuple[Layer, ...], BeforeValidator(_check_names)] = ()
    """Those among `layers` whose frames are kept too."""
    window_s: float = Field(default=60.0, ge=2.0)
    """Longest audio given to the model at once; longer audio is windowed."""
    overlap_s: float = Field(default=4.0, ge=0.0)
    """What neighbouring windows share at least. The convolutional position embedding looks 1.3 s either way."""
    compute_dtype: Literal["float32", "tf32", "bfloat16", "float16"] = "float32"
    """Number format of the computation; what is pooled and kept is float32 always. The README has what each costs in
    precision. `tf32` shortens the factors of matrix products on GPUs that can; elsewhere it is float32."""
    logits: bool = False
    """Appends the outputs of the checkpoint's regression head (audEERING's emotion model) to the last hidden state."""

    @model_validator(mode="after")
    def _check(self) -> "TransformersView":
        if self.logits and self.layers != (LAST_HIDDEN_STATE,):
            raise ValueError(f"logits: true goes with layers: [{LAST_HIDDEN_STATE}] alone, whose mean they are made of")
        if self.overlap_s > self.window_s / 2:
            raise ValueError(f"overlap_s ({self.overlap_s:g}) may be at most half of window_s ({self.window_s:g})")
        if self.layers == ():
            raise ValueError("layers names none: expected at least one")
        return self


class TextView(Section):
    """A language model of Hugging Face transformers, on transcripts."""

    family: Literal["text"]
    source: str
    """Hub id, local directory, or `miniature:bert`."""
    revision: str | None = None
    """Branch, tag or commit of a hub source; None means its main branch."""
    columns: tuple[str, ...] = Field(default=("transcript",), min_length=1)
    """Columns of the manifest whose texts are computed: `transcript`, and `transcript_<name>` of a recogniser. Rows are
    known by the text, so what two columns say alike is computed once. Heads read the first column."""
    without_loops: bool = Field(default=False, exclude_if=lambda value: not value)  # a new key, nobody's new identity
    """Leaves out what a recogniser said over and over, or faster than anyone speaks: such utterances have no text."""
    layers: Annotated[Literal["all"] | Upto | tuple[Layer, ...], BeforeValidator(_check_layers)] = "all"
    """Hidden states that are pooled and kept, over the tokens; see `TransformersView.layers`."""
    frames: Annotated[tuple[Layer, ...], BeforeValidator(_check_names)] = ()
    """Those among `layers` whose tokens' states are kept too."""

    @model_validator(mode="after")
    def _check(self) -> "TextView":
        # Any other column may be a label, from which heads would then learn to predict it.
        if strangers := [c for c in self.columns if c != "transcript" and not c.startswith("transcript_")]:
            raise ValueError(f"columns: expected transcript or transcript_<name of a recogniser>, got {strangers[0]}")
        if self.layers == ():
            raise ValueError("layers names none: expected at least one")
        if LAST_HIDDEN_STATE in (*self.frames, *(self.layers if isinstance(self.layers, tuple) else ())):
            raise ValueError(f"{LAST_HIDDEN_STATE} is the highest layer of a language model: name it by its number")
        return self


class SpeechBrainView(Section):
    """SpeechBrain's x-vector."""

    family: Literal["speechbrain"]
    source: str
    """Hub id, local directory with `embedding_model.ckpt`, or `miniature:xvector`."""
    revision: str | None = None
    """Branch, tag or commit of a hub source; None means its main branch."""
    frames: tuple[str, ...] = Field(default=(), max_length=0)
    """Always empty: the embedding is one vector per utterance."""


class TFHubView(Section):
    """A TensorFlow SavedModel that turns a waveform into an embedding, such as TRILLsson."""

    family: Literal["tfhub"]
    source: str
    """Local directory with `saved_model.pb`, or `miniature:trillsson`."""


class MFCCView(Section):
    """Mel-frequency cepstral coefficients, computed here."""

    family: Literal["mfcc"]
    num_coefficients: int = Field(default=40, ge=1)
    """Coefficients kept, the zeroth included."""
    num_mel_bands: int = Field(default=40, ge=1, le=128)
    """Bands of the mel filterbank."""
    statistics: Literal["mean", "mean_sd"] = "mean_sd"
    """What is pooled over the frames: the mean, or the mean followed by the standard deviation."""
    frames: tuple[Literal["mfcc"], ...] = ()
    """`[mfcc]` to keep the coefficients of every frame."""

    @model_validator(mode="after")
    def _check(self) -> "MFCCView":
        if self.num_coefficients > self.num_mel_bands:
            raise ValueError(
                f"num_coefficients ({self.num_coefficients}) may be at most num_mel_bands ({self.num_mel_bands})"
            )
        return self


class OpenSmileView(Section):
    """One of openSMILE's feature sets, eGeMAPS and ComParE among them. Its licence forbids commercial use of the
    features."""

    family: Literal["opensmile"]
    feature_set: Literal[
        "eGeMAPSv02", "eGeMAPSv01b", "eGeMAPSv01a", "GeMAPSv01b", "GeMAPSv01a", "ComParE_2016", "emobase",
        "IS09", "IS10", "IS11", "IS12", "IS13",
    ] = "eGeMAPSv02"  # fmt: skip
    """openSMILE's name of the set: 88 values per utterance in eGeMAPSv02, 6373 in ComParE_2016."""
    frames: tuple[Literal["lld"], ...] = Field(default=(), max_length=1)
    """`[lld]` to keep the low-level descriptors, a hundred per second, that the values are functionals of."""


View = Annotated[
    TransformersView | TextView | SpeechBrainView | TFHubView | MFCCView | OpenSmileView, Field(discriminator="family")
]
"""Any view; the field type for a `views` section."""

_MODELS = {get_args(model.model_fields["family"].annotation)[0]: model for model in get_args(get_args(View)[0])}
FAMILIES = tuple(_MODELS)
"""The values that `family` can take."""


def parse(view: Mapping[str, object] | View) -> View:
    """Checks a view's section.

    Args:
        view: the section as a plain mapping; a view that was checked before is passed on.

    Raises:
        ViewError: the family is unknown, a key is missing or unknown, or a value is not one of those expected; one
            line, naming the key.
    """
    if isinstance(view, tuple(_MODELS.values())):
        return view
    if not isinstance(view, Mapping):
        raise ViewError(f"expected a view as a mapping with the key family, got {view!r}")
    family = view.get("family")
    if family not in FAMILIES:
        found = "none" if family is None else repr(family)
        raise ViewError(
            f"expected a family among {', '.join(FAMILIES)}, got {found}{suggestion(str(family), FAMILIES)}"
        )
    return _MODELS[family].check(view, f"view of family {family}")


def fields(family: str) -> list[str]:
    """The keys that a view of that family knows."""
    return list(_MODELS[family].model_fields)
