"""The work on one block: decode, compute, write. It runs where its runner puts it: a thread here, a worker elsewhere.

Takes recordings, leaves the block's values in the store, and reports which utterances are there and which cannot be
used; it never commits. Until the block is whole, its rows are kept in the store's journal now and then, and rows that
are there, of a run that was stopped or a worker that was lost, are not computed again. What it needs to know of the
study travels in `Extraction`, so that any process that sees the study's folder can do it. Knows no manifest, no lock
and no other block.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np

from strata import extractors
from strata.extractors import Extractor, HiddenStates, TextExtractor
from strata.extractors.contract import SAMPLING_RATE, Size
from strata.extractors.sources import local_only
from strata.pipeline.errors import StageError
from strata.pipeline.extraction.decoding import CPU_PORTION_S, PORTION_S, Recording, decoded, divided
from strata.pipeline.study import fingerprints
from strata.pipeline.study.failures import Failure
from strata.pipeline.study.folder import Study
from strata.store import FeatureStore, FingerprintMismatch, Journal
from strata.store.blocks import Rows
from strata.store.layout import Header

TOKENS_PER_S = 5.0
"""Of a transcript, about: frames without a rate are tokens."""

KEEP_S = 30.0
"""So often rows of a block that is not whole are kept, and as soon as a portion gives some. With that, what a kill
costs is less than a minute's computing."""

_MODEL = threading.Lock()
"""Held while the model computes a block; meanwhile the next one is decoded, and the last one written."""
_LOADING = threading.Lock()
_loaded: dict["Extraction", tuple[Extractor, list[str]]] = {}
"""The model at hand, with the state of its files; one at a time, for models are large."""


@dataclass(frozen=True)
class Extraction:
    """What is to be computed from every recording, and where the values go."""

    folder: str
    """The study's, absolute: every process sees it under this path."""
    store: str
    section: str
    """The view, as JSON."""
    device: str
    batch_s: float | None
    keep_s: float | None
    """See `KEEP_S`; None where neither are rows kept nor those used that were."""

    @classmethod
    def of(cls, study: Study, view: str) -> "Extraction":
        """The extraction of one view as params.yaml has it now."""
        folder, how = study.folder.absolute(), study.params.extract
        section = study.params.views[view].model_dump_json()
        store = str(Study(folder / "params.yaml").store(view))
        return cls(str(folder), store, section, how.device, how.batch_s, KEEP_S)


@dataclass(frozen=True)
class Shape:
    """What a view's values look like: what a store must know before there are any."""

    fingerprint: dict
    layer_names: tuple[str, ...]
    dim: int
    frame_layers: tuple[str, ...]
    frame_dim: int
    frame_rate_hz: float

    @classmethod
    def of(cls, what: "Extractor | Header") -> "Shape":
        """As a model, or a store made with it, says of itself."""
        return cls(
            dict(what.fingerprint),
            tuple(what.layer_names),
            what.dim,
            tuple(what.frame_layers),
            what.frame_dim,
            what.frame_rate_hz,
        )

    def num_frames(self, seconds: float) -> int:
        """Frames of utterances that last so long together, about."""
        return round(seconds * (self.frame_rate_hz or TOKENS_PER_S))

    def num_bytes(self, utterances: int, seconds: float) -> int:
        """Bytes of the values of so many utterances that last so long together."""
        frames = self.num_frames(seconds) * len(self.frame_layers)
        return 4 * (utterances * len(self.layer_names) * self.dim + frames * self.frame_dim)


@dataclass(frozen=True)
class BlockResult:
    """What became of one block."""

    block: int
    claim: str | None = None
    """What the store knows the writer by; None where somebody else had claimed the block, and nothing was done."""
    keys: list[str] = field(default_factory=list)
    """Contents of the rows that were written, in order."""
    num_frames: list[int] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)
    """Why the others were not, by content."""
    in_float32: tuple[str, ...] = ()
    """Modules that were computed in float32 because the view's number format is wrong for them there: on the machine
    that finished the block, or one whose rows waited in the journal."""


def shape(extraction: Extraction) -> Shape:
    """Asks the model itself; some families have to load it for that."""
    return Shape.of(extractor(extraction))


def size(extraction: Extraction) -> Size | None:
    """How large the model is, where it knows."""
    return extractor(extraction).size


def look(extraction: Extraction) -> dict[str, object]:
    """Asks the model for its fingerprint, and for all that this follows from: see `study.fingerprints`."""
    return fingerprints.seen(extractor(extraction), extraction.section)


def look_locally(extraction: Extraction) -> dict[str, object]:
    """As `look`, wherever that is asked; of a model that is there.

    Raises:
        CheckpointAbsent: it would have to be fetched.
    """
    with local_only():
        return look(extraction)


def compute(
    extraction: Extraction,
    block: int,
    recordings: Sequence[Recording],
    progress: Callable[[float], object] = lambda _: None,
) -> BlockResult:
    """Fills a reserved block with the recordings that can be used.

    Args:
        extraction: of which view.
        block: number of the block.
        recordings: at most a block's worth.
        progress: is told the seconds of audio that are done, now and then.

    Raises:
        StageError: the model that this process finds is not the one that the store was made with.
    """
    model, store = extractor(extraction), FeatureStore.open(extraction.store)
    if not store.holds(model.fingerprint):
        differing = ", ".join(FingerprintMismatch(extraction.store, store.header.fingerprint, model.fingerprint).fields)
        raise StageError(
            f"{socket.gethostname()} finds another model than the one that {extraction.store} was made with "
            f"({differing}); give every worker the same checkpoint"
        )
    claim = store.claim(block)
    if claim is None:
        return BlockResult(block)
    keeper = _Keeper(extraction, store)
    states = keeper.kept(recordings)
    progress(sum(recording.duration_s for recording in recordings if recording.content in states))
    failures: dict[str, Failure] = {}
    # Divided before the rows that are there are left out: the others are computed in the batches of their first time.
    portions = divided(recordings, portion_seconds(extraction, model))
    portions = [[r for r in portion if r.content not in states] for portion in portions]
    decoding = decoded(extraction.folder, [portion for portion in portions if portion], model.unusable)
    first = list(islice(decoding, 1))  # decoded while the block before computes
    with _MODEL:
        for portion, waveforms in chain(first, decoding):
            found = _outcomes(model, portion, waveforms)
            failures |= {content: outcome for content, outcome in found.items() if isinstance(outcome, Failure)}
            states |= (new := {content: outcome for content, outcome in found.items() if content not in failures})
            keeper.keep(new, model.in_float32)
            progress(sum(recording.duration_s for recording in portion))
    states = {recording.content: states[recording.content] for recording in recordings if recording.content in states}
    if states:
        store.write_block(block, rows(states, store.header.frame_layers), claim)
    counts = [s.num_frames for s in states.values()]
    return BlockResult(
        block, claim, list(states), counts, failures, tuple(sorted({*keeper.in_float32, *model.in_float32}))
    )


class _Keeper:
    """Keeps rows of one block in the journal of its store until it is whole."""

    def __init__(self, extraction: Extraction, store: FeatureStore):
        self._keep_s, self._frame_layers = extraction.keep_s, store.header.frame_layers
        self._journal = Journal(store.storage, store.header)
        self._waiting: dict[str, HiddenStates] = {}
        self.in_float32: set[str] = set()
        """Modules that were computed so where rows were made that `kept` has found."""
        self._last = time.monotonic()

    def kept(self, recordings: Sequence[Recording]) -> dict[str, HiddenStates]:
        """The values that were kept of recordings, by content."""
        found: dict[str, HiddenStates] = {}
        there = self._journal.rows([r.content for r in recordings]) if self._keep_s is not None else ()
        for part, in_float32 in there:
            self.in_float32.update(in_float32)
            for row, key in enumerate(part.keys):
                frames = {layer: values[row] for layer, values in part.frames.items()}
                found[key] = HiddenStates(part.pooled[row], int(part.num_frames[row]), frames)
        return found

    def keep(self, states: Mapping[str, HiddenStates], in_float32: Sequence[str]) -> None:
        """Takes note of values and of what was computed in float32 for them; writes what has come together when it is
        time."""
        self._waiting |= states
        if self._keep_s is not None and self._waiting and time.monotonic() - self._last >= self._keep_s:
            self._journal.add(rows(self._waiting, self._frame_layers), in_float32)
            self._waiting = {}
            self._last = time.monotonic()


def _outcomes(
    model: Extractor, portion: Sequence[Recording], waveforms: Sequence[np.ndarray | str | Failure]
) -> dict[str, HiddenStates | Failure]:
    """What became of each recording of a portion, by content."""
    results = iter(values(model, [waveform for waveform in waveforms if not isinstance(waveform, Failure)]))
    compute_dtype = model.fingerprint["compute_dtype"]
    return {
        recording.content: waveform if isinstance(waveform, Failure) else checked(next(results), compute_dtype)
        for recording, waveform in zip(portion, waveforms, strict=True)
    }


def portion_seconds(extraction: Extraction, model: Extractor) -> float:
    """How much audio is decoded, computed and kept together: what takes seconds, wherever it is computed."""
    if model.device == "cpu" and not isinstance(model, TextExtractor):
        return max(CPU_PORTION_S, 2 * (extraction.batch_s or 0.0))
    return PORTION_S


def extractor(extraction: Extraction) -> Extractor:
    """The view's model, kept from block to block, and made anew when its files have changed."""
    with _LOADING:
        model, files = _loaded.get(extraction, (None, None))
        if model is None or files != fingerprints.checkpoint_files(model.checkpoint):
            _loaded.clear()
            model = extractors.load(
                json.loads(extraction.section),
                device=extraction.device,
                batch_s=extraction.batch_s,
                folder=extraction.folder,
            )
            _loaded[extraction] = model, fingerprints.checkpoint_files(model.checkpoint)
        return model


def values(model: Extractor, inputs: Sequence[np.ndarray] | Sequence[str]) -> Sequence[HiddenStates]:
    """What the model says of waveforms at 16 kHz, or of texts."""
    if not inputs:
        return []
    return model.extract(inputs) if isinstance(model, TextExtractor) else model.extract(inputs, SAMPLING_RATE)


def checked(states: HiddenStates, compute_dtype: object) -> HiddenStates | Failure:
    """The values as they are, or a failure where some are not finite."""
    if all(np.isfinite(values).all() for values in (states.pooled, *states.frames.values())):
        return states
    hint = "; float16 overflows, try bfloat16" if compute_dtype == "float16" else ""
    return Failure(f"the model's values are not finite{hint}", lasting=True)


def rows(states: dict[str, HiddenStates], frame_layers: Sequence[str]) -> Rows:
    """Values by content as a store takes them."""
    found = list(states.values())
    return Rows(
        keys=list(states),
        pooled=np.stack([s.pooled for s in found]),
        num_frames=np.array([s.num_frames for s in found], np.int32),
        frames={layer: [s.frames[layer] for s in found] for layer in frame_layers},
    )
