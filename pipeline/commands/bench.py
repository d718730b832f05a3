"""`strata bench extract VIEW…`: how fast this machine extracts, and how busy that keeps its device.

On a sample of the study's own recordings and into a store of its own, which is removed: no view's store is touched.
Decode, compute and write are first measured one after the other, so that each is told from the others; then the same
recordings go through the runner that `strata extract` uses, where the three overlap.
"""

import json
import shutil
import statistics
import time
from argparse import ArgumentParser
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd

from strata import extractors
from strata.extractors import speed
from strata.extractors.contract import Size
from strata.pipeline.errors import StageError, for_each
from strata.pipeline.extraction import plan, stores, work
from strata.pipeline.extraction.decoding import Recording, decoded, divided
from strata.pipeline.extraction.dispatch import runner_for
from strata.pipeline.extraction.runners import Runner
from strata.pipeline.extraction.work import Extraction
from strata.pipeline.progress import say
from strata.pipeline.show import notices, tables
from strata.pipeline.study import keys, options
from strata.pipeline.study.failures import Failure
from strata.pipeline.study.folder import Study
from strata.pipeline.study.manifest import channels, make_absent_audio
from strata.store import FeatureStore
from strata.store.lock import exclusive

LEAST_S = 3.0
"""A phase that takes less is measured again and again until it has taken this long; less would be noise."""
MOST_ROUNDS = 50
BLOCK_S = 2.0
"""A block that computes for longer than this is cut into smaller ones, so that there are some to overlap."""
FEWEST_BLOCKS = 4
"""For each worker, in the pass through the runner."""


@dataclass(frozen=True)
class Phases:
    """What was measured where the blocks are computed, of one pass over the sample."""

    decode_s: float
    compute_s: float
    write_s: float
    rounds: int
    """Passes that the three are medians of."""
    unusable: int
    """Recordings of the sample that the view cannot take."""
    device: str
    batch_s: float | None
    compute_dtype: str
    peak_bytes: int | None
    """Most of a GPU's memory that PyTorch held at a time."""
    operations: float | None
    """Floating-point operations of the network."""
    matrix_rate: float | None
    """Operations per second of large matrix products on that device."""
    size: Size | None


@dataclass(frozen=True)
class Measurement:
    """What is said of one view."""

    view: str
    utterances: int
    """In the sample."""
    audio_s: float
    """They last so long together."""
    phases: Phases
    hours_per_hour: float
    """Of audio, through decode, compute and write at the same time."""
    num_workers: int
    """Blocks that were computed at the same time."""
    is_text: bool
    """Whether it read texts, whose duration is estimated."""
    notices: tuple[str, ...]
    """Why the numbers say nothing of real speech or real models."""

    @property
    def share_of_matrix_rate(self) -> float | None:
        """Of the rate of large matrix products that the network reaches while it computes."""
        if self.phases.operations is None:
            return None
        return self.phases.operations / self.phases.compute_s / self.phases.matrix_rate

    def as_json(self) -> dict[str, object]:
        """All fields by name, and what follows from them."""
        fields = asdict(self)
        fields |= fields.pop("phases")
        return fields | {"share_of_matrix_rate": self.share_of_matrix_rate}


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    parser.epilog = "example: strata bench extract wavlm"
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    help_ = "measure how fast this machine extracts views, on a sample of the study's recordings; no store is touched"
    action = actions.add_parser("extract", help=help_, description=help_, epilog=parser.epilog)
    options.add_study(action)
    options.add_names(action, "VIEW")
    action.add_argument("--seconds", type=float, default=120.0, help="of audio in the sample; default: 120")
    action.add_argument("--json", action="store_true", help="print all that was measured as JSON")
    action.set_defaults(call=lambda given: extract(options.study_of(given), given.names, given.seconds, given.json))


def extract(study: Study, names: list[str], seconds: float, as_json: bool) -> None:
    """Measures the named views (all where none is named) and prints a table for each.

    Raises:
        StageError: no manifest, nothing in it, or no recording that a view can take.
    """
    views = study.chosen("views", names)
    manifest = study.read_manifest()
    if not len(manifest):
        raise StageError(f"{study.manifest} lists no utterance: add recordings, then run `strata corpus`")
    if not seconds > 0:
        raise StageError(f"--seconds: expected a positive number of seconds of audio, got {seconds:g}")
    found: list[Measurement] = []

    def measure(view: str) -> None:
        utterances = keys.rows(study.params.views[view], manifest)
        utterances = utterances.assign(channel=channels(study, utterances))
        chosen = sample(utterances, seconds)
        make_absent_audio(study, chosen[chosen["text"].isna()])
        say(f"{view}: measuring on {len(chosen)} of {len(utterances)} utterances, {chosen['duration_s'].sum():.0f} s")
        longest = utterances["duration_s"].max()
        if longest > 2 * chosen["duration_s"].max():
            say(f"{view}: recordings of up to {longest:.0f} s are not among them; draw more by --seconds")
        found.append(_measured(study, view, chosen))
        if not as_json:
            print(tables.plain(_table(found[-1])), end="\n\n")

    for_each(views, measure, "view")
    if as_json:
        print(json.dumps([measurement.as_json() for measurement in found], indent=1))


def sample(utterances: pd.DataFrame, seconds: float) -> pd.DataFrame:
    """About so many seconds of the manifest's rows, the same every time, with the distribution of its durations.

    The rows in order of duration are divided into as many equal parts as there are to be utterances, and one is drawn
    from each. Where a few long recordings hold most of the audio, so that these come to less than half of what was
    asked for, what is lacking is filled up by the longest that fit.
    """
    ordered = utterances.sort_values(["duration_s", "content"])
    count = min(len(ordered), max(1, round(seconds / ordered["duration_s"].mean())))
    places = (np.arange(count) + np.random.default_rng(0).uniform(size=count)) * len(ordered) / count
    drawn = set(places.astype(int).tolist())
    durations = ordered["duration_s"].to_numpy()
    lacking = seconds - durations[sorted(drawn)].sum()
    for row in range(len(ordered) - 1, -1, -1) if lacking > seconds / 2 else ():
        if row not in drawn and durations[row] <= lacking:
            drawn.add(row)
            lacking -= durations[row]
    return ordered.iloc[sorted(drawn)]


def _measured(study: Study, view: str, chosen: pd.DataFrame) -> Measurement:
    how, family = study.params.extract, study.params.views[view].family
    with _scratch(study) as folder:
        extraction = replace(Extraction.of(study, view), store=str(folder / f"{view}.zarr"), keep_s=None)
        with runner_for(how, extraction, family in extractors.OWN_PROCESS) as runner:
            shape = runner.ask(work.shape)
            store = stores.create(Path(extraction.store), shape, chosen)
            with store.locked():
                blocks = plan.blocks(chosen, store.header, runner.num_workers)
                phases = runner.ask(_Question(tuple((store.reserve(), tuple(block)) for block in blocks)))
                rate = _pass(store, runner, list(_handed_out(blocks, phases.compute_s, runner.num_workers)))
            num_workers = runner.num_workers
    synthetic = [name for name, corpus in study.params.corpora.items() if corpus.synthetic]
    is_miniature = str(getattr(study.params.views[view], "source", "")).startswith("miniature:")
    reasons = notices.about(synthetic, [view] if is_miniature else [])
    sentences = tuple(f"{notice.tag.capitalize()}: {notice.sentence}" for notice in reasons)
    audio_s = float(chosen["duration_s"].sum())
    return Measurement(
        view, len(chosen), audio_s, phases, rate, num_workers, bool(chosen["text"].notna().any()), sentences
    )


@contextmanager
def _scratch(study: Study) -> Iterator[Path]:
    """An empty folder that is gone afterwards; what a killed measurement left is gone before."""
    folder = study.folder.absolute() / ".strata" / "bench"
    with exclusive(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _Question:
    """Put to whoever computes: how long each phase takes by itself."""

    blocks: tuple[tuple[int, tuple[Recording, ...]], ...]
    """Reserved block and recordings of each."""

    def __call__(self, extraction: Extraction) -> Phases:
        model, store = work.extractor(extraction), FeatureStore.open(extraction.store)
        claims = [store.claim(block) for block, _ in self.blocks]
        waveforms = [self._usable(extraction, recordings, model) for _, recordings in self.blocks]
        usable = [waveform for block in waveforms for waveform in block]
        unusable = sum(len(recordings) for _, recordings in self.blocks) - len(usable)
        if not usable:
            raise StageError(f"none of the {unusable} utterances drawn can be used: `strata extract` lists the reasons")
        # The first computation loads the weights and finds out how large a batch may be: it counts for nothing else.
        work.values(model, [min(usable, key=len)])
        counts = [speed.count_operations(lambda b=block: work.values(model, b)) for block in waveforms if block]
        operations = None if None in counts else sum(counts)
        speed.forget_peak(model.device)
        times: list[tuple[float, float, float]] = []
        while sum(compute_s for _, compute_s, _ in times) < LEAST_S and len(times) < MOST_ROUNDS:
            times.append(tuple(map(sum, zip(*self._round(extraction, model, store, claims), strict=True))))
        decode_s, compute_s, write_s = (statistics.median(phase) for phase in zip(*times, strict=True))
        dtype = str(model.fingerprint["compute_dtype"])
        return Phases(
            decode_s=decode_s,
            compute_s=compute_s,
            write_s=write_s,
            rounds=len(times),
            unusable=unusable,
            device=f"{model.device} ({speed.device_name(model.device)})",
            batch_s=model.batch_s,
            compute_dtype=dtype,
            peak_bytes=speed.peak_memory(model.device),
            operations=operations,
            matrix_rate=None if operations is None else speed.matrix_rate(model.device, dtype),
            size=model.size,
        )

    @staticmethod
    def _usable(
        extraction: Extraction, recordings: Sequence[Recording], model: extractors.Extractor
    ) -> list[np.ndarray]:
        portions = divided(recordings, work.portion_seconds(extraction, model))
        decoding = decoded(extraction.folder, portions, model.unusable)
        return [waveform for _, portion in decoding for waveform in portion if not isinstance(waveform, Failure)]

    def _round(
        self, extraction: Extraction, model: extractors.Extractor, store: FeatureStore, claims: Sequence[str]
    ) -> Iterator[tuple[float, float, float]]:
        """Seconds of decode, compute and write for each block, one after the other."""
        for (block, recordings), claim in zip(self.blocks, claims, strict=True):
            waveforms, decode_s = _timed(lambda r=recordings: self._usable(extraction, r, model))
            if not waveforms:
                yield decode_s, 0.0, 0.0
                continue
            states, compute_s = _timed(lambda w=waveforms: work.values(model, w))
            keyed = {f"{row:032x}": one for row, one in enumerate(states)}
            rows = work.rows(keyed, store.header.frame_layers)
            _, write_s = _timed(lambda b=block, r=rows, c=claim: store.write_block(b, r, c))
            yield decode_s, compute_s, write_s


def _timed(action: Callable[[], object]) -> tuple:
    start = time.perf_counter()
    result = action()
    return result, time.perf_counter() - start


def _handed_out(blocks: Sequence[list[Recording]], compute_s: float, num_workers: int) -> Iterator[list[Recording]]:
    """The sample in blocks for the runner: some for each worker, and again and again where it is small."""
    pieces = max(1, min(8, ceil(compute_s / len(blocks) / BLOCK_S)))
    parts = []
    for block in blocks:
        rows = ceil(len(block) / pieces)
        parts += [block[start : start + rows] for start in range(0, len(block), rows)]
    passes = ceil(max(FEWEST_BLOCKS * num_workers / len(parts), LEAST_S * num_workers / compute_s))
    return islice(cycle(parts), min(passes, MOST_ROUNDS * num_workers) * len(parts))


def _pass(store: FeatureStore, runner: Runner, blocks: Sequence[list[Recording]]) -> float:
    """Hours of audio per hour when the runner computes all blocks, each with one more waiting as in an extraction."""
    warm = min(blocks, key=lambda block: sum(recording.duration_s for recording in block))
    _compute(store, runner, [warm] * (runner.num_workers if runner.num_workers > 1 else 0))  # others have no model yet
    _, elapsed_s = _timed(lambda: _compute(store, runner, blocks))
    return sum(recording.duration_s for block in blocks for recording in block) / elapsed_s


def _compute(store: FeatureStore, runner: Runner, blocks: Sequence[list[Recording]]) -> None:
    waiting = deque(blocks)
    while waiting or runner.pending:
        while waiting and runner.pending < 2 * runner.num_workers:
            runner.submit(store.reserve(), waiting.popleft(), lambda _: None)
        for _, outcome in runner.finished():
            if isinstance(outcome, Exception):
                raise outcome
            if outcome.keys:
                store.commit(outcome.block, outcome.keys, outcome.num_frames, outcome.claim)


def _table(measurement: Measurement) -> tables.Table:
    phases, share = measurement.phases, measurement.share_of_matrix_rate
    total_s = phases.decode_s + phases.compute_s + phases.write_s
    shares = (f"{part / total_s:.1%}" for part in (phases.decode_s, phases.compute_s, phases.write_s))
    batch = "–" if phases.batch_s is None else f"{phases.batch_s:.3g} s of audio"
    rate = "–" if share is None else f"{share:.1%} of {phases.matrix_rate / 1e9:,.0f} GFLOP/s"
    lines = {
        "audio hours per hour, all overlapping": _rate(measurement.hours_per_hour),
        "decode, compute, write, one by one": ", ".join(shares),
        "device": phases.device,
        "batch at most": batch,
        "compute_dtype": phases.compute_dtype,
        "peak device memory": tables.size(phases.peak_bytes),
        "parameters": _parameters(phases.size),
        "matrix rate reached while computing": rate,
    }
    rounds = f"median of {phases.rounds} rounds" if phases.rounds > 1 else "one round"
    blocks = f"{measurement.num_workers} block{'s' * (measurement.num_workers > 1)}"
    notes = [
        f"{measurement.utterances} utterances, {measurement.audio_s:.0f} s of audio.",
        f"All overlapping: through the runner of `strata extract`, {blocks} computed at a time.",
        f"One by one: {rounds}, files read once before.",
    ]
    if measurement.is_text:
        notes.append(f"Texts last as long as it takes to say them, at {keys.CHARACTERS_PER_S:g} characters a second.")
    if phases.unusable:
        notes.append(f"{phases.unusable} of them cannot be used and count in the hours only.")
    if phases.rounds * phases.compute_s < LEAST_S:
        notes.append(f"Noisy: the model computed for less than {LEAST_S:g} s; draw more by --seconds.")
    return tables.Table(
        f"Extraction of {measurement.view}",
        (tables.Column(""), tables.Column("found")),
        tuple((tables.Cell(name), tables.Cell(value)) for name, value in lines.items()),
        notes=(*notes, *measurement.notices),
    )


def _rate(hours: float) -> str:
    return tables.number(hours, 1) if hours >= 1 else f"{hours:.2g}"


def _parameters(size: Size | None) -> str:
    if size is None:
        return "–"
    if size.parameters == size.whole:
        return f"{tables.millions(size.whole)}, {tables.size(size.whole * size.itemsize)}"
    unit, factor = ("GB", 1e9) if size.whole * size.itemsize >= 1e8 else ("MB", 1e6)
    before, after = (f"{count * size.itemsize / factor:.3g}" for count in (size.whole, size.parameters))
    kept = f"{tables.millions(size.whole)} → {tables.millions(size.parameters)}"
    return f"{kept}, {before} → {after} {unit} by the cut"
