"""An extraction that is stopped keeps what it has computed, and the next one computes the rest and nothing twice."""

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from strata.pipeline import cli
from strata.pipeline.extraction import work
from strata.pipeline.extraction.decoding import Recording
from strata.pipeline.extraction.work import Extraction
from strata.pipeline.study.folder import Study
from strata.store import FeatureStore, Journal, layout
from tests.pipeline.stages.stores import opened

COUNT = 84
"""Recordings: a block of 64, and one of the rest."""
PORTION_S = 3.0
"""Of audio: nine recordings or so."""


@pytest.fixture(scope="module")
def whole(new_study, silence, tmp_path_factory):
    """A study that was extracted without being stopped, its store put aside. To be copied, its miniature with it."""
    root = tmp_path_factory.mktemp("whole")
    study = new_study(root / "study", silence).add(COUNT)
    study.params["views"] = {"wavlm": {"family": "transformers", "source": "miniature:wavlm", "frames": [2]}}
    study.params["experiments"] = study.params["eliminate"] = {}
    study.write_params()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(root / "miniatures"))
        patch.setattr(work, "CPU_PORTION_S", PORTION_S)
        study.succeeds("corpus")
        study.succeeds("extract", "wavlm")
    (study.folder / "features/wavlm.zarr").rename(study.folder / "quiet.zarr")
    shutil.rmtree(study.folder / "features")
    return study


@pytest.fixture
def study(whole, tmp_path, capsys, monkeypatch):
    """That study, to be extracted again."""
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "miniatures"))
    return whole.copied(tmp_path, capsys)


class Stopping:
    """Counts what the model is asked for, in a file, and at the `at`-th time ends the process as a user would."""

    def __init__(self, folder: Path, at: int, kind: int):
        self.log, self.at, self.kind = folder / "asked.txt", at, kind
        self.calls, self.values = 0, work.values

    def __call__(self, model, inputs):
        """In the place of `work.values`."""
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), self.kind)
            time.sleep(60)  # what is stopped does nothing more
        found = self.values(model, inputs)
        with self.log.open("a") as file:
            print(len(inputs), file=file)
        return found


def extract_stopped(folder: Path, at: int, kind: int) -> None:
    """An extraction in a process of its own, whose rows are kept after every portion."""
    os.chdir(folder)
    for number in (1, 2):
        os.dup2(os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work.KEEP_S, work.CPU_PORTION_S, work.values = 0.0, PORTION_S, Stopping(folder, at, kind)
    raise SystemExit(cli.main(["extract"]))


def stop(study, at: int, kind: int = signal.SIGKILL) -> str:
    """Extracts until the model is asked for the `at`-th time; what was said."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["strata.pipeline.stages.extract", "strata.extractors.transformers.speech"])
    process = processes.Process(target=extract_stopped, args=(study.folder, at, kind))
    process.start()
    process.join()
    assert process.exitcode == (-kind if kind == signal.SIGKILL else 130)
    return (study.folder / "said.txt").read_text()


def asked(study) -> list[int]:
    """Of how many recordings values were computed, each time."""
    return [int(line) for line in (study.folder / "asked.txt").read_text().split()]


def go_on(study, monkeypatch) -> str:
    """Extracts the rest, in this process."""
    with monkeypatch.context() as patch:
        patch.setattr(work, "CPU_PORTION_S", PORTION_S)
        patch.setattr(work, "values", Stopping(study.folder, 0, 0))
        return study.succeeds("extract", "wavlm")


def contents(store: FeatureStore) -> list[list[bytes]]:
    """Every file of every block, byte by byte, whatever its number: no number is given to a second run."""
    names = [layout.block_files(store.header, block) for block in store.committed()]
    return sorted([store.storage.read_all(name) for name in block] for block in names)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("at", [4, 9])
def test_what_was_computed_is_kept_and_the_rest_makes_the_same_store(study, monkeypatch, at, kind):
    """Ctrl-C and SIGKILL, in the first block and in the second: no row is computed twice, none is lost, and the store
    is bit for bit that of a run that was not stopped, in as many files; nothing waits any more."""
    said = stop(study, at, kind)
    before = sum(asked(study))
    assert len(asked(study)) == at - 1
    store = opened(study, "wavlm")
    assert store.verify() == []
    assert len(store) + len(Journal(store.storage, store.header).keys) == before
    if kind == signal.SIGINT:
        assert f"wavlm: {before} of {COUNT} rows are kept\nstrata: interrupted; " in said
    said = go_on(study, monkeypatch)
    assert f"wavlm: {COUNT - len(store)} new of {COUNT} utterances" in said
    assert f"wavlm: {before - len(store)} of them were computed by a run that was stopped" in said
    assert f"wavlm: computed {COUNT - before} utterances" in said
    assert sum(asked(study)) == COUNT
    assert contents(opened(study, "wavlm")) == contents(FeatureStore.open(study.folder / "quiet.zarr"))
    assert not list((study.folder / "features").glob("*.tmp"))


def test_stopped_again_and_again_a_run_makes_headway_and_the_same_store(study, monkeypatch):
    """Two portions at a time."""
    while not (study.folder / "asked.txt").exists() or sum(asked(study)) < COUNT - 20:
        stop(study, 3)
    go_on(study, monkeypatch)
    assert sum(asked(study)) == COUNT
    assert contents(opened(study, "wavlm")) == contents(FeatureStore.open(study.folder / "quiet.zarr"))


def test_a_corpus_that_has_changed_meanwhile_costs_what_is_new(study, monkeypatch):
    """A recording that has left and three that came: rows that wait are taken whatever is beside them."""
    stop(study, 4)
    before = sum(asked(study))
    waiting = opened(study, "wavlm")
    gone = Study(study.folder / "params.yaml").read_manifest().set_index("content")["audio"]
    kept = Journal(waiting.storage, waiting.header).keys
    row = next(row for row in study.rows if str(gone[min(kept)]).endswith(row.split(",")[0]))
    study.add(3).rows.remove(row)
    study.add(0).succeeds("corpus")
    said = go_on(study, monkeypatch)
    assert f"wavlm: {before - 1} of them were computed by a run that was stopped" in said
    assert sum(asked(study)) == COUNT + 3
    assert len(opened(study, "wavlm")) == COUNT + 2


def test_rows_of_another_view_that_wait_are_refused_and_dropped_with_the_store(study):
    """As those of a store would be, although it has none yet; `strata store info` tells how many there are."""
    stop(study, 4)
    before = sum(asked(study))
    path = str(study.folder / "features/wavlm.zarr")
    assert f'"rows_in_journal": {before}' in study.succeeds("store", "info", path)
    study.params["views"]["wavlm"]["layers"] = [2, 3]
    study.write_params()
    line = study.fails("extract", "wavlm")
    assert "was written by another view (layers: stored" in line
    assert "strata store drop" in line
    study.succeeds("store", "drop", path)
    assert not list((study.folder / "features").glob("*.tmp"))
    assert f"wavlm: computed {COUNT} utterances" in study.succeeds("extract", "wavlm")


def test_what_a_lost_worker_kept_is_had_by_the_one_that_gets_its_block(study, monkeypatch):
    """Whoever computes a block asks for what is there of its recordings; a damaged entry is computed anew."""
    manifest = Study(study.folder / "params.yaml").read_manifest().sort_values("duration_s")
    recordings = [Recording(r.content, r.audio, r.start_s, r.duration_s) for r in manifest[:30].itertuples()]
    monkeypatch.setattr(work, "KEEP_S", 0.0)
    monkeypatch.setattr(work, "CPU_PORTION_S", PORTION_S)
    extraction = Extraction.of(Study(study.folder / "params.yaml"), "wavlm")
    quiet = FeatureStore.open(study.folder / "quiet.zarr")
    store = FeatureStore.create(
        extraction.store,
        fingerprint=quiet.header.fingerprint,
        layer_names=quiet.layer_names,
        dim=quiet.header.dim,
        frame_layers=quiet.header.frame_layers,
        frame_rate_hz=quiet.header.frame_rate_hz,
        block_rows=64,
    )
    computed, values = [], work.values

    def dying(model, inputs):
        if len(computed) == 2:
            raise ConnectionError("the machine is gone")
        computed.append(len(inputs))
        return values(model, inputs)

    with store.locked():
        with monkeypatch.context() as patch:
            patch.setattr(work, "values", dying)
            with pytest.raises(ConnectionError):
                work.compute(extraction, store.reserve(), recordings)
        damaged = next(Path(Journal(store.storage, store.header).place).glob("pooled/c/*/0/0"))
        damaged.write_bytes(damaged.read_bytes()[:-1])
        monkeypatch.setattr(work, "values", lambda model, inputs: computed.append(len(inputs)) or values(model, inputs))
        told: list[float] = []
        result = work.compute(extraction, store.reserve(), recordings, told.append)
        store.commit(result.block, result.keys, result.num_frames, result.claim)
    assert sum(computed) - 30 in computed[:2]  # the damaged ones, and no others, twice
    assert sum(told) == pytest.approx(sum(recording.duration_s for recording in recordings))
    assert result.keys == [recording.content for recording in recordings]
    found = FeatureStore.open(extraction.store)
    np.testing.assert_allclose(found.pooled(), quiet.pooled(found.keys), rtol=1e-4, atol=1e-5)
