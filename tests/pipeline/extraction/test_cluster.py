"""Extraction over Dask's workers: the same store, whoever dies."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import dask
import numpy as np
import psutil
import pytest

from strata.pipeline.extraction import cluster, work
from strata.pipeline.extraction.work import Extraction, Recording
from strata.pipeline.study.folder import Study
from strata.store import FeatureStore
from tests.pipeline.conftest import tone

BIN = Path(sys.executable).parent


COUNT = 180
"""Of recordings: several blocks of 64."""


@pytest.fixture(scope="module")
def single(new_study, silence, tmp_path_factory):
    """A study extracted by a single process, whose store is put aside. To be copied, its miniature with it."""
    root = tmp_path_factory.mktemp("single")
    study = new_study(root / "study", silence).add(COUNT)
    study.params["views"]["wavlm"]["frames"] = [2]
    study.params["experiments"] = study.params["eliminate"] = {}
    study.write_params()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(root / "miniatures"))
        study.succeeds("corpus")
        study.succeeds("extract", "wavlm")
    store = study.folder / "features/wavlm.zarr"
    assert len(list((store / "key/c").iterdir())) > 2
    store.rename(study.folder / "single.zarr")
    return study


@pytest.fixture
def spread(single, tmp_path, capsys, monkeypatch):
    """That study, to be extracted again."""
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "miniatures"))
    return single.copied(tmp_path, capsys)


def need_tensorflow():
    """Skips where it is not installed. Does not import it: PyTorch is here already."""
    if find_spec("tensorflow") is None:
        pytest.skip("pip install 'strata-speech[tfhub]'")


def assert_same_as_single(study, view="wavlm"):
    """Row by row, value by value."""
    found = FeatureStore.open(study.folder / f"features/{view}.zarr")
    expected = FeatureStore.open(study.folder / "single.zarr")
    assert found.verify() == []
    assert sorted(found.keys) == sorted(expected.keys)
    np.testing.assert_allclose(found.pooled(expected.keys), expected.pooled(), rtol=1e-4, atol=1e-5)
    pairs = zip(found.frames(expected.keys, "2"), expected.frames(expected.keys, "2"), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def at_the_first_block(store: Path, act: Callable) -> threading.Thread:
    """Does something as soon as a block of this store is claimed and so has a worker at it; to be joined."""

    def watch():
        while not list(store.glob("*.lock")):
            time.sleep(0.001)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_a_killed_worker_loses_nothing(spread, forked):
    """Two workers, one of them killed midway: the run completes, equal to the single process's."""
    spread.params["extract"] = {"workers": 2}
    spread.write_params()
    here, killed = psutil.Process(), []

    def kill():
        (server,) = [child for child in here.children() if "forkserver" in str(child.cmdline())]
        workers = server.children()
        assert len(workers) == 2
        killed.append(max(workers, key=lambda worker: sum(worker.cpu_times()[:2])))
        killed[0].kill()

    watching = at_the_first_block(spread.folder / "features/wavlm.zarr", kill)
    said = spread.succeeds("extract", "wavlm")
    watching.join()
    assert killed
    assert f"wavlm: computed {COUNT} utterances" in said
    assert_same_as_single(spread)


class Scheduler(NamedTuple):
    """A running `dask scheduler`."""

    start_worker: Callable
    address: str
    processes: list
    """Its own and its workers'."""


def run_worker(arguments: list[str], environment: dict[str, str]) -> None:
    """`dask worker`, in the process that calls it."""
    from distributed.cli.dask_worker import main

    os.environ.update(environment)
    main([*arguments, "--no-nanny"])


@pytest.fixture
def scheduler(tmp_path, monkeypatch, forked):
    """A scheduler without workers. Cores may be busy: who starts some waits for them longer than a user would."""
    monkeypatch.setattr(cluster, "PATIENCE_S", 600)
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "miniatures"))  # as the study's: its workers make them
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = []

    def start(*command):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen([str(BIN / "dask"), *command], env=environment, cwd=tmp_path, **quiet))

    def start_worker(*options):
        command = [address, "--nthreads", "2", "--no-dashboard", "--local-directory", str(tmp_path), *options]
        if options:  # of another kind than the process that is forked
            start("worker", *command)
        else:
            processes.append(forked.Process(target=run_worker, args=(command, environment)))
            processes[-1].start()

    file = tmp_path / "scheduler.json"
    start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    deadline = time.monotonic() + 600
    while not (file.exists() and file.read_text().endswith("}")) and time.monotonic() < deadline:
        time.sleep(0.05)  # it is there before all of it is written
    address = json.loads(file.read_text())["address"]
    yield Scheduler(start_worker, address, processes)
    for process in processes:
        process.kill()
    for process in processes:
        process.wait() if isinstance(process, subprocess.Popen) else process.join()


def test_a_running_scheduler_serves_every_view_on_the_workers_that_fit(spread, scheduler, monkeypatch):
    """PyTorch's views; TensorFlow's are not given to them, and whoever asks is told what to start."""
    spread.params["extract"] = {"scheduler": scheduler.address}
    spread.params["views"]["trillsson"] = {"family": "tfhub", "source": "miniature:trillsson"}
    spread.write_params()
    scheduler.start_worker()
    assert f"computed {COUNT} utterances" in spread.succeeds("extract", "wavlm")
    assert_same_as_single(spread)
    need_tensorflow()
    monkeypatch.setattr(cluster, "PATIENCE_S", 1)
    assert "--nthreads 2 --resources tensorflow=1`" in spread.fails("extract", "trillsson")


@pytest.mark.slow
def test_a_running_scheduler_serves_tensorflows_views_on_workers_of_their_own(spread, scheduler):
    """On those that were started for it, beside others."""
    need_tensorflow()
    spread.params["extract"] = {"scheduler": scheduler.address}
    spread.params["views"]["trillsson"] = {"family": "tfhub", "source": "miniature:trillsson"}
    spread.write_params()
    scheduler.start_worker()
    scheduler.start_worker("--resources", "tensorflow=1")
    assert f"trillsson: computed {COUNT} utterances" in spread.succeeds("extract", "trillsson")
    assert "trillsson: up to date" in spread.succeeds("extract", "trillsson")


def test_without_scheduler_or_worker_there_is_one_line(study, scheduler, monkeypatch):
    """Which says what to start."""
    study.succeeds("corpus")
    monkeypatch.setattr(cluster, "PATIENCE_S", 1)
    study.params["extract"] = {"scheduler": "tcp://127.0.0.1:9"}
    study.write_params()
    assert "nobody answers at tcp://127.0.0.1:9; start `dask scheduler` there" in study.fails("extract", "mfcc")
    monkeypatch.setattr(cluster, "PATIENCE_S", 5)  # the scheduler, which is there, is to be heard on a busy machine too
    study.params["extract"] = {"scheduler": scheduler.address}
    study.write_params()
    assert f"start `dask worker {scheduler.address} --nthreads 2`" in study.fails("extract", "mfcc")


@pytest.fixture
def taken_port():
    """Something listens where Dask's pages would be, such as another extraction."""
    with socket.socket() as listening:
        with suppress(OSError):  # if not this, something else has it
            listening.bind(("", 8787))
            listening.listen()
        yield


@pytest.mark.slow
def test_a_tensorflow_view_never_enters_this_process(study, taken_port, monkeypatch):
    """Not even with one worker, and not to learn its shape."""
    need_tensorflow()
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # cannot be imported here
    study.params["views"] = {"trillsson": {"family": "tfhub", "source": "miniature:trillsson"}}
    study.params["experiments"] = study.params["eliminate"] = {}
    study.write_params()
    study.succeeds("corpus")
    assert "8787" not in study.succeeds("extract")
    assert len(FeatureStore.open(study.folder / "features/trillsson.zarr")) == 24


def test_a_block_that_somebody_has_claimed_is_left_alone(study):
    """As when Dask runs it a second time because its first worker seemed dead."""
    study.succeeds("corpus")
    study.succeeds("extract", "mfcc")
    extraction = Extraction.of(Study(study.folder / "params.yaml"), "mfcc")
    store = FeatureStore.open(extraction.store)
    with store.locked():
        block = store.reserve()
        assert store.claim(block)
        report = work.compute(extraction, block, [Recording("0" * 32, "recordings/000.wav", 0.0, 0.3)])
    assert report.claim is None
    assert not report.keys
    assert not (store.path / f"pooled/c/{block}").exists()


def test_blocks_that_come_back_taken_are_given_out_again(study, monkeypatch):
    """Under another number; nothing is lost."""
    study.succeeds("corpus")
    compute, attempts = work.compute, []

    def taken_at_first(extraction, block, recordings, progress):
        attempts.append(block)
        if len(attempts) == 1:
            FeatureStore.open(extraction.store).claim(block)
        return compute(extraction, block, recordings, progress)

    monkeypatch.setattr(work, "compute", taken_at_first)
    assert "computed 24 utterances" in study.succeeds("extract", "mfcc")
    assert attempts == [0, 1]


KILLER = """
import os
from strata.pipeline.extraction import work


def compute_unless_fatal(extraction, block, recordings, progress=None, compute=work.compute):
    if any(recording.duration_s > 1 for recording in recordings):
        os._exit(9)
    return compute(extraction, block, recordings)


work.compute = compute_unless_fatal
"""


def test_recordings_that_end_every_worker_are_named_and_the_rest_is_done(study, forked):
    """As one whose frames do not fit into memory: it is tried a few times, here twice, and not for days."""
    study.params["experiments"] = study.params["eliminate"] = {}
    study.params["extract"] = {"workers": 2}
    study.write_params().add(176)
    tone(study.recordings / "000.wav", 100, seconds=2.0)  # the longest comes first
    study.succeeds("corpus")
    killer = study.folder / "killer.py"
    killer.write_text(KILLER)
    with dask.config.set({"distributed.worker.preload": [str(killer)], "distributed.scheduler.allowed-failures": 1}):
        line = study.fails("extract", "mfcc")
    assert line.startswith("strata: view mfcc: 64 utterances, the first recordings/000.wav, ended every process")
    assert len(FeatureStore.open(study.folder / "features/mfcc.zarr")) == 200 - 64


@pytest.mark.slow
def test_a_scheduler_that_goes_away_is_one_line(spread, scheduler):
    """What was committed stays."""
    scheduler.start_worker()
    spread.params["extract"] = {"scheduler": scheduler.address}
    spread.write_params()
    store = spread.folder / "features/wavlm.zarr"
    watching = at_the_first_block(store, lambda: [process.kill() for process in scheduler.processes])
    line = spread.process("strata", "extract", "wavlm", check=False).splitlines()[-1]
    watching.join()
    assert "the Dask scheduler at" in line
    assert "the same command goes on from there" in line
    assert FeatureStore.open(store).verify() == []
