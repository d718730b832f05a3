"""Models trained by a Dask cluster: the same results, whoever dies."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from pathlib import Path

import distributed
import pytest

from strata.pipeline.stages import cluster
from strata.pipeline.study import yaml12
from strata.trainers.inputs.data import TrainingError
from strata.trainers.training.workers import in_order
from tests.imports import ROOT

BIN = Path(sys.executable).parent
VIEWS = {"xls-r": 5, "mms": 8, "whisper": 10, "mfcc": 13, "wavlm": 20}
"""Five of the recipe's nine, with numbers of coefficients in the place of models."""


@pytest.fixture(scope="module")
def tango(new_study, silence, tmp_path_factory):
    """The recipe cut to 20 cells: pairs of five small views, concatenated and by transport. To be copied."""
    study = new_study(tmp_path_factory.mktemp("tango") / "study", silence).add(24)
    recipe = yaml12.load((ROOT / "recipes" / "tango.yaml").read_text(encoding="utf-8"))
    labels, numbers = ["file_name,speaker,emotion,gender,age"], range(24)
    labels += [f"{n:03d}.wav,{'ab'[n % 2]},{'xyz'[n % 3]},{'fm'[n % 2]},{20 + n}" for n in numbers]
    (study.recordings / "metadata.csv").write_text("\n".join(labels) + "\n")
    study.params["tasks"] = recipe["tasks"]
    study.params["views"] = {name: {"family": "mfcc", "num_coefficients": n} for name, n in VIEWS.items()}
    pairs = recipe["experiments"]["pairs"]
    pairs |= {"views": list(VIEWS), "folds": {"k": 2, "stratify": "speaker"}, "epochs": 1}
    pairs |= {"channels": [8], "hidden": [16], "head": 8}
    pairs["grid"]["fusion"] = pairs["grid"]["fusion"][:2]
    study.params["experiments"], study.params["eliminate"] = {"pairs": pairs}, {}
    study.params["train"] = {"workers": 1}
    study.write_params()
    study.succeeds("corpus")
    study.succeeds("extract")
    return study


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """A scheduler's address, and a function that starts a worker for it."""
    monkeypatch.setattr(cluster, "PATIENCE_S", 300.0)  # cores may be busy
    environment, processes = os.environ | {"OMP_NUM_THREADS": "1"}, []

    def start(*command) -> subprocess.Popen:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen([str(BIN / "dask"), *command], env=environment, cwd=tmp_path, **quiet))
        return processes[-1]

    file = tmp_path / "scheduler.json"
    start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    deadline = time.monotonic() + 300
    while not (file.exists() and file.read_text().endswith("}")) and time.monotonic() < deadline:
        time.sleep(0.05)  # it is there before all of it is written
    address = json.loads(file.read_text())["address"]
    yield address, lambda: start("worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny")
    for process in reversed(processes):
        process.terminate()
    for process in processes:
        process.wait()


def _written(study) -> dict[str, Path]:
    """The cells whose results are there."""
    root = study.folder / "results" / "pairs"
    return {file.parent.relative_to(root).as_posix(): file.parent for file in root.rglob("metrics.json")}


def test_a_killed_worker_loses_nothing(tango, tmp_path, capsys, scheduler):
    """Two workers, one of them killed midway: every cell is there, equal to those of a run on this machine alone."""
    address, start = scheduler
    here = tango.copied(tmp_path / "here", capsys)
    spread = tango.copied(tmp_path / "spread", capsys)
    spread.params["train"] = {"scheduler": address}
    spread.write_params()
    workers = [start(), start()]
    command = [BIN / "strata", "train"]
    run = subprocess.Popen(command, cwd=spread.folder, env=spread.environment, stderr=subprocess.PIPE, text=True)
    here.succeeds("train")
    while not _written(spread) and run.poll() is None:
        time.sleep(0.005)
    workers[0].send_signal(signal.SIGKILL)
    _, said = run.communicate()
    assert run.returncode == 0, said
    expected, found = _written(here), _written(spread)
    assert len(expected) == 20
    assert found.keys() == expected.keys()
    for name, cell in expected.items():
        for file in ("predictions.parquet", "curves.parquet"):
            assert (cell / file).read_bytes() == (found[name] / file).read_bytes()
        assert here.metrics(f"pairs/{name}")["tasks"] == spread.metrics(f"pairs/{name}")["tasks"]


class _Loses(Executor):
    """Stands for a scheduler that gives up the first calls of two and three, and every call of two."""

    def __init__(self):
        self.seen = []

    def submit(self, function, *arguments) -> Future:
        call, item = Future(), arguments[-1]
        if item in (2, 3) and (item == 2 or item not in self.seen):
            call.set_exception(distributed.KilledWorker("train", "tcp://127.0.0.1:9", 3))
        else:
            call.set_result(function(*arguments))
        self.seen.append(item)
        return call


def _square(x: int) -> int:
    return x * x


def test_a_model_that_only_waited_is_not_given_up_with_the_one_that_kills(monkeypatch):
    """Each is trained once more alone; only the one that is lost then too is told."""
    workers, executor = cluster.Cluster("tcp://127.0.0.1:9"), _Loses()
    monkeypatch.setitem(vars(workers), "_executor", executor)
    monkeypatch.setattr(workers, "_count", lambda: 2)
    found = in_order(_square, range(6), workers)
    assert isinstance(found[2], TrainingError)
    assert "every worker that trained it was lost, also with no other model out" in str(found[2])
    assert [each for each in found if each is not found[2]] == [0, 1, 9, 16, 25]
    assert [executor.seen.count(item) for item in range(6)] == [1, 1, 2, 2, 1, 1]


def test_without_scheduler_or_worker_there_is_one_line(tango, tmp_path, capsys, scheduler, monkeypatch):
    """Which says what to start."""
    study = tango.copied(tmp_path / "study", capsys)
    monkeypatch.setattr(cluster, "PATIENCE_S", 1.0)
    study.params["train"] = {"scheduler": "tcp://127.0.0.1:9"}
    study.write_params()
    assert "train.scheduler: nobody answers at tcp://127.0.0.1:9; start `dask scheduler` there" in study.fails("train")
    address, _ = scheduler
    monkeypatch.setattr(cluster, "PATIENCE_S", 5.0)  # the scheduler is to be heard on a busy machine too
    study.params["train"] = {"scheduler": address}
    study.write_params()
    assert f"no worker at {address}: start `dask worker {address} --nthreads 1`" in study.fails("train")
