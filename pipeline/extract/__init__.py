"""`strata extract VIEW…`: manifest → features/<view>.zarr, for the utterances that the store does not have yet.

Rows are computed in order of duration, so that the utterances of a batch are of one length, and committed block by
block: whatever stops the run, the next one goes on behind the last block.
"""

import csv
import hashlib
import io
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

import extractors
from extractors import Extractor, HiddenStates, UnusableAudio, audio
from extractors.contract import SAMPLING_RATE
from pipeline import dvcfile
from pipeline.corpus import make_absent_audio
from pipeline.errors import StageError
from pipeline.files import failure_table, write_if_changed
from pipeline.progress import bar, say
from pipeline.report.tables import size
from pipeline.study import Study, for_each
from store import FeatureStore, StoreError
from store.layout import default_block_rows

PORTION_S = 600.0
"""Seconds of audio decoded ahead of the model: bounds memory whatever the recordings' lengths."""
DISK_MARGIN = 1.1


def run(study: Study, names: list[str]) -> None:
    """Brings the stores of the named views (all where none is named) up to date.

    Raises:
        StageError: no manifest, a store that DVC knows but that is not here, too little disk, or a larger share of
            failures than `extract.max_failed`; everything that could be computed has been committed by then.
    """
    views = study.chosen("views", names)
    utterances = study.read_manifest().drop_duplicates("content")
    for_each(views, lambda view: _extract(study, view, utterances), "view")


def _extract(study: Study, view: str, utterances: pd.DataFrame) -> None:
    path = study.store(view)
    if not path.exists() and dvcfile.has_store(study, view):
        raise StageError(
            f"{path} is listed in dvc.lock but is not here: run `dvc pull` first, "
            f"or `strata store drop {path}` to compute it anew"
        )
    section = study.params.views[view]
    how = study.params.extract
    extractor = extractors.load(section, device=how.device, batch_s=how.batch_s, folder=study.folder)
    store = _open_store(study, path, extractor, utterances)
    with store.locked():
        failures = _Failures.read(study, view, extractor, set(utterances["content"]))
        missing = set(store.missing(utterances["content"].tolist())) - set(failures.rows)
        todo = utterances[utterances["content"].isin(missing)].sort_values(["duration_s", "content"], ascending=False)
        if len(todo):
            _announce(view, store, extractor, todo, len(utterances))
            make_absent_audio(study, todo)
            _compute(study, view, store, extractor, todo, failures)
        else:
            say(f"{view}: up to date ({len(utterances) - len(failures.rows)} of {len(utterances)} utterances)")
        failures.write()
    _judge(study, view, failures, len(utterances))


def _open_store(study: Study, path: Path, extractor: Extractor, utterances: pd.DataFrame) -> FeatureStore:
    if path.exists():
        store = FeatureStore.open(path)
        store.check(extractor.fingerprint)
        return store
    _refuse_renamed(study, path, extractor)
    return FeatureStore.create(
        path,
        fingerprint=extractor.fingerprint,
        layer_names=extractor.layer_names,
        dim=extractor.dim,
        frame_layers=extractor.frame_layers,
        frame_dim=extractor.frame_dim,
        frame_rate_hz=extractor.frame_rate_hz,
        block_rows=default_block_rows(_bytes(extractor, utterances) / len(utterances)),
    )


def _refuse_renamed(study: Study, path: Path, extractor: Extractor) -> None:
    """Raises StageError if the values are there under a name that params.yaml no longer has: a view was renamed."""
    for other in sorted(path.parent.glob("*.zarr")):
        if other.stem in study.params.views:
            continue
        try:
            same = FeatureStore.open(other).holds(extractor.fingerprint)
        except StoreError:
            continue  # what cannot be opened holds nothing worth keeping, and is in nobody's way
        if same:
            raise StageError(
                f"{other} holds these very values under a name that {study.params_file} no longer has: "
                f"`mv {other} {path}` to keep them, or `strata store drop {other}`"
            )


def _bytes(extractor: Extractor, utterances: pd.DataFrame) -> float:
    """Bytes that these utterances' values take on disk."""
    pooled = 4 * len(extractor.layer_names) * extractor.dim * len(utterances)
    frames = utterances["duration_s"].sum() * extractor.frame_rate_hz
    return pooled + 4 * len(extractor.frame_layers) * extractor.frame_dim * frames


def _announce(view: str, store: FeatureStore, extractor: Extractor, todo: pd.DataFrame, total: int) -> None:
    hours, needed = todo["duration_s"].sum() / 3600, _bytes(extractor, todo)
    say(f"{view}: {len(todo)} new of {total} utterances, {hours:.2f} h of audio, {size(needed)} to write")
    free = shutil.disk_usage(store.path).free
    if free < DISK_MARGIN * needed:
        raise StageError(
            f"{size(needed)} to write but only {size(free)} free at {store.path}; make room, or keep fewer "
            f"layers or frames in views.{view}"
        )


def _compute(
    study: Study, view: str, store: FeatureStore, extractor: Extractor, todo: pd.DataFrame, failures: "_Failures"
) -> None:
    started, before = time.monotonic(), len(store)
    block_rows = store.header.block_rows
    block: list[tuple[str, HiddenStates]] = []
    with bar(todo["duration_s"].sum() / 3600, "h audio", view) as progress:
        for rows, waveforms in _decoded(study, todo, extractor, failures):
            results = extractor.extract(waveforms, SAMPLING_RATE) if waveforms else []
            for (_, row), states in zip(rows.iterrows(), results, strict=True):
                if _finite(states):
                    block.append((row["content"], states))
                else:
                    failures.add(row, _Failure("the model's values are not finite", lasting=True))
            while len(block) >= block_rows:
                _append(store, block[:block_rows])
                del block[:block_rows]
            progress.update(rows["duration_s"].sum() / 3600)
        _append(store, block)
    seconds = time.monotonic() - started
    record = {
        "view": view,
        "utterances": len(store) - before,
        "audio_s": float(todo["duration_s"].sum()),
        "seconds": round(seconds, 3),
        "rows": len(store),
        "bytes": sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file()),
        "failures": len(failures.rows),
    }
    write_if_changed(study.results("extract") / f"{view}.json", json.dumps(record, indent=1).encode())
    speed = record["audio_s"] / max(seconds, 1e-9)
    say(f"{view}: computed {record['utterances']} utterances in {seconds:.1f} s ({speed:.0f} h of audio per hour)")


def _decoded(study: Study, todo: pd.DataFrame, extractor: Extractor, failures: "_Failures") -> Iterator:
    """Portions of (rows, waveforms at 16 kHz) that the model can take; the next is decoded while one is computed."""

    def decode(row) -> np.ndarray | _Failure:
        path = study.folder / row.audio
        try:
            samples = audio.read(path, row.start_s, row.duration_s, SAMPLING_RATE)
            if audio.content(path, row.start_s, row.duration_s) != row.content:
                return _Failure("changed since `strata corpus` listed it; run that again")
        except (UnusableAudio, OSError) as error:
            return _Failure(str(error))
        reason = extractor.unusable(samples, SAMPLING_RATE)
        return samples if reason is None else _Failure(reason, lasting=True)

    numbers = (todo["duration_s"].cumsum() // PORTION_S).to_numpy()
    portions = [part for _, part in todo.groupby(numbers, sort=True)]
    with ThreadPoolExecutor() as pool:

        def begin(portion: pd.DataFrame) -> list:
            return [pool.submit(decode, row) for row in portion.itertuples()]

        pending = begin(portions[0])
        for i, portion in enumerate(portions):
            waveforms = [job.result() for job in pending]
            pending = begin(portions[i + 1]) if i + 1 < len(portions) else []
            usable = [not isinstance(waveform, _Failure) for waveform in waveforms]
            for (_, row), waveform in zip(portion.iterrows(), waveforms, strict=True):
                if isinstance(waveform, _Failure):
                    failures.add(row, waveform)
            yield portion[usable], [w for w, good in zip(waveforms, usable, strict=True) if good]


def _append(store: FeatureStore, block: list[tuple[str, HiddenStates]]) -> None:
    if block:
        keys, states = zip(*block, strict=True)
        frames = {layer: [s.frames[layer] for s in states] for layer in store.header.frame_layers}
        store.append(keys, np.stack([s.pooled for s in states]), [s.num_frames for s in states], frames)


def _finite(states: HiddenStates) -> bool:
    return all(np.isfinite(values).all() for values in (states.pooled, *states.frames.values()))


def _judge(study: Study, view: str, failures: "_Failures", total: int) -> None:
    limit, count = study.params.extract.max_failed, len(failures.rows)
    if count:
        say(f"{view}: {count} of {total} utterances cannot be used; {failures.path} lists them with reasons")
    if count > limit * total:
        raise StageError(
            f"{count} of {total} utterances failed, more than extract.max_failed ({limit:.0%}); "
            "mend the files, or raise the limit in params.yaml"
        )


@dataclass(frozen=True)
class _Failure:
    """Why one utterance cannot be used."""

    reason: str
    lasting: bool = False
    """Whether it lies in the recording and the model, so that trying again would be in vain."""


@dataclass
class _Failures:
    """Utterances that this view cannot take; lasting failures are remembered, so that the same model skips them."""

    study: Study
    view: str
    model: str
    """Identity of the extractor: another one may succeed."""
    rows: dict[str, Mapping] = field(default_factory=dict)
    """By content."""

    @property
    def path(self):
        """Where they are listed."""
        return self.study.extract_failures(self.view)

    @classmethod
    def read(cls, study: Study, view: str, extractor: Extractor, contents: set[str]) -> "_Failures":
        """Those of an earlier run that still concern the corpus and the model."""
        fingerprint = json.dumps(extractor.fingerprint, sort_keys=True).encode()
        failures = cls(study, view, hashlib.blake2b(fingerprint, digest_size=8).hexdigest())
        if failures.path.exists():
            for row in csv.DictReader(io.StringIO(failures.path.read_text(encoding="utf-8"))):
                if row["content"] in contents and row["model"] == failures.model:
                    failures.rows[row["content"]] = row
        return failures

    def add(self, row: pd.Series, failure: _Failure) -> None:
        named = {"utterance": row["utterance"], "audio": row["audio"], "content": row["content"]}
        model = self.model if failure.lasting else ""
        self.rows[row["content"]] = named | {"model": model, "reason": failure.reason}

    def write(self) -> None:
        write_if_changed(self.path, failure_table(self.rows.values(), extra=("content", "model")))
