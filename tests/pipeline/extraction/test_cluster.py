"""Extraction over Dask's workers: the same store, whoever dies."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest

from strata.pipeline.extraction import cluster, work
from strata.pipeline.extraction.work import Extraction, Recording
from strata.pipeline.study.folder import Study
from strata.store import FeatureStore

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


def test_a_killed_worker_loses_nothing(spread):
    """Two workers, one of them killed midway: the run completes, equal to the single process's."""
    spread.params["extract"] = {"workers": 2}
    spread.write_params()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "strata.pipeline.cli", "extract", "wavlm"]
    store = spread.folder / "features/wavlm.zarr"
    with subprocess.Popen(command, cwd=spread.folder, env=environment, stderr=subprocess.PIPE, text=True) as run:
        # The first block that is claimed has a worker at it.
        while not list(store.glob("*.lock")) and run.poll() is None:
            time.sleep(0.001)
        workers = [p for p in psutil.Process(run.pid).children(recursive=True) if "spawn_main" in str(p.cmdline())]
        assert len(workers) == 2
        busy = max(workers, key=lambda worker: sum(worker.cpu_times()[:2]))
        busy.send_signal(signal.SIGKILL)
        said = run.stderr.read()
    assert run.returncode == 0, said
    assert f"wavlm: computed {COUNT} utterances" in said
    assert_same_as_single(spread)


class Scheduler(NamedTuple):
    """A running `dask scheduler`."""

    start_worker: Callable
    address: str
    processes: list[subprocess.Popen]
    """Its own and its workers'."""


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """A scheduler without workers. Cores may be busy: who starts some waits for them longer than a user would."""
    monkeypatch.setattr(cluster, "PATIENCE_S", 600)
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "miniatures"))  # as the study's: its workers make them
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = []

    def start(*command):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen([str(BIN / "dask"), *command], env=environment, cwd=tmp_path, **quiet))
        return processes[-1]

    file = tmp_path / "scheduler.json"
    start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    deadline = time.monotonic() + 600
    while not (file.exists() and file.read_text().endswith("}")) and time.monotonic() < deadline:
        time.sleep(0.05)  # it is there before all of it is written
    address = json.loads(file.read_text())["address"]
    yield Scheduler(
        lambda *options: start("worker", address, "--nthreads", "2", "--no-dashboard", *options), address, processes
    )
    for process in reversed(processes):
        process.terminate()
    for process in processes:
        process.wait()


def test_a_running_scheduler_serves_every_view_on_the_workers_that_fit(spread, scheduler):
    """PyTorch's views on some, TensorFlow's on those that were started for it."""
    worker, address, _ = scheduler
    spread.params["extract"] = {"scheduler": address}
    spread.params["views"]["trillsson"] = {"family": "tfhub", "source": "miniature:trillsson"}
    spread.write_params()
    worker()
    assert f"computed {COUNT} utterances" in spread.succeeds("extract", "wavlm")
    assert_same_as_single(spread)
    need_tensorflow()
    worker("--resources", "tensorflow=1")
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
    with socket.socket() as listening, suppress(OSError):  # if not this, something else has it
        listening.bind(("", 8787))
        listening.listen()
        yield


def test_a_tensorflow_view_never_enters_this_process(study, taken_port):
    """Not even with one worker, and not to learn its shape."""
    need_tensorflow()
    study.params["views"] = {"trillsson": {"family": "tfhub", "source": "miniature:trillsson"}}
    study.params["experiments"] = study.params["eliminate"] = {}
    study.write_params()
    study.succeeds("corpus")
    program = [
        "import sys",
        "from strata.pipeline import cli",
        "if __name__ == '__main__':",
        "    print(cli.main(['extract']), 'tensorflow' in sys.modules)",
    ]
    (study.folder / "run.py").write_text("\n".join(program))
    said = study.process("python", "run.py")
    assert "0 False" in said
    assert "8787" not in said
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

compute = work.compute


def compute_unless_fatal(extraction, block, recordings, progress=None):
    if any(recording.duration_s > 1 for recording in recordings):
        os._exit(9)
    return compute(extraction, block, recordings)


work.compute = compute_unless_fatal
"""


def test_recordings_that_end_every_worker_are_named_and_the_rest_is_done(study, monkeypatch):
    """As one whose frames do not fit into memory: it is tried a few times, and not for days."""
    from tests.pipeline.conftest import tone

    study.params["experiments"] = study.params["eliminate"] = {}
    study.params["extract"] = {"workers": 2}
    study.write_params().add(176)
    tone(study.recordings / "000.wav", 100, seconds=2.0)  # the longest comes first
    study.succeeds("corpus")
    hooks = study.folder / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(KILLER)
    monkeypatch.setenv("PYTHONPATH", str(hooks))
    said = study.process("strata", "extract", "mfcc", check=False)
    line = said.splitlines()[-1]
    assert line.startswith("strata: view mfcc: 64 utterances, the first recordings/000.wav, ended every process")
    assert len(FeatureStore.open(study.folder / "features/mfcc.zarr")) == 200 - 64


def test_a_scheduler_that_goes_away_is_one_line(spread, scheduler):
    """What was committed stays."""
    worker, address, _ = scheduler
    worker()
    spread.params["extract"] = {"scheduler": address}
    spread.write_params()
    command = [sys.executable, "-m", "strata.pipeline.cli", "extract", "wavlm"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    store = spread.folder / "features/wavlm.zarr"
    with subprocess.Popen(command, cwd=spread.folder, env=environment, stderr=subprocess.PIPE, text=True) as run:
        while not list(store.glob("*.lock")) and run.poll() is None:
            time.sleep(0.001)
        for process in scheduler.processes:
            process.send_signal(signal.SIGKILL)
        said = run.stderr.read()
    assert run.returncode == 1
    assert "the Dask scheduler at" in said.splitlines()[-1]
    assert "the same command goes on from there" in said.splitlines()[-1]
    assert FeatureStore.open(store).verify() == []
