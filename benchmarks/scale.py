"""A view of 150,000 utterances, 25 layers and 1,024 dimensions, larger than most memories (DESIGN §11).

What reading it, training on it, eliminating its layers and verifying speakers cost, in processes of their own.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import psutil

from benchmarks import peak_mb, write_table
from strata.store import FeatureStore

ROWS, LAYERS, DIM, SPEAKERS = 150_000, 25, 1024, 1251
"""VoxCeleb1 in WavLM-Large."""
EMBEDDING = 512
WRITTEN_ROWS = 1024
CHOSEN = 1000
BATCH, ROUNDS = 2048, 3
WORKERS = (1, 2, 4)
COMMAND = "python -m benchmarks.scale"


def main() -> int:
    """Writes a store into a temporary folder, has it used, and writes the tables; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="utterances (%(default)s)")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(STEPS[arguments.step[0]](arguments.folder, int(arguments.step[1]))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        needed, free = 2.2 * 4 * arguments.rows * LAYERS * DIM, shutil.disk_usage(folder).free
        if free < needed:
            print(
                f"benchmarks.scale: skipped, it needs {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free; "
                "name a larger disk by TMPDIR",
                file=sys.stderr,
            )
            return 1
        _measured(Path(folder), arguments.rows)
    return 0


def _measured(folder: Path, rows: int) -> None:
    start = perf_counter()
    _write(folder, rows)
    writing = perf_counter() - start
    files = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    size = f"{rows:,} rows × {LAYERS} × {DIM} float32: {sum(files) / 1e9:.2f} GB in {len(files)} files"
    reading = [[name, "–" if seconds is None else f"{seconds:.3f} s", f"{peak:.0f} MB"]
               for name, seconds, peak in _run(folder, "read", 1)[0]]  # fmt: skip
    note = (
        f"{size}, written in {writing:.0f} s, {WRITTEN_ROWS} rows at a time, syncs included.\n"
        "Read by a fresh process, page cache as the writing left it; peak is its resident memory up to there."
    )
    write_table("Scale", COMMAND, ["step", "time", "peak"], reading, note)
    rows_of_table = []
    for step, what in (("train", "trained"), ("eliminate", "eliminated"), ("verify", "verified")):
        for workers in WORKERS if step == "train" else (1,):
            found, peak = _run(folder, step, workers)
            rows_of_table.append(
                [what, found["what"], str(workers), f"{found['seconds']:.0f} s", f"{peak:.2f} GB", "≤ 4 GB"]
            )
            print(rows_of_table[-1], file=sys.stderr, flush=True)
    note = (
        f"The same store; batches of {BATCH}, one epoch, two folds. Memory: what is no file's, summed over all\n"
        "processes of the run (`Pss_Anon` and `Pss_Shmem` of smaps_rollup, 20 times a second).\n"
        "The time includes gathering the view from the store, which is done once per command."
    )
    head = ["the view is", "what", "workers", "time", "memory", "reach"]
    write_table("Larger than memory", COMMAND, head, rows_of_table, note)


def _run(folder: Path, step: str, workers: int) -> tuple[object, float]:
    """What a step printed, in a process of its own, and the peak of the private memory of all its processes in GB."""
    command = [sys.executable, "-m", "benchmarks.scale", "--folder", str(folder), "--step", step, str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        peak = _Peak(process.pid)
        output = process.communicate()[0]
        if process.returncode:
            raise SystemExit(f"benchmarks.scale: {step} ended with {process.returncode}")
    return json.loads(output.splitlines()[-1]), peak.stop() / 1e6


class _Peak:
    """The largest sum of the private memory of a process and its descendants, in kB, for as long as it runs."""

    def __init__(self, pid: int):
        self.root, self.peak = psutil.Process(pid), 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        """Ends the watch."""
        self._ended.set()
        self._thread.join()
        return self.peak

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            try:
                each = [self.root, *self.root.children(recursive=True)]
            except psutil.Error:
                return
            self.peak = max(self.peak, sum(map(_private_kb, each)))


def _private_kb(process: psutil.Process) -> int:
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def _write(folder: Path, rows: int) -> None:
    """Random values, but for the first of each vector, which is the number of its row; and a speaker's own offset."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((WRITTEN_ROWS, LAYERS, DIM), np.float32)
    own = rng.standard_normal((SPEAKERS, DIM), np.float32)
    store = FeatureStore.create(
        folder / "view.zarr", fingerprint={}, layer_names=[str(i) for i in range(LAYERS)], dim=DIM
    )
    for start in range(0, rows, WRITTEN_ROWS):
        numbers = np.arange(start, min(start + WRITTEN_ROWS, rows))
        part = values[: len(numbers)] + own[numbers % SPEAKERS][:, None]
        part[:, :, 0] = numbers[:, None]
        store.append([f"{i:032x}" for i in numbers], part, np.ones(len(numbers), int))


def _read(folder: Path, workers: int) -> list:
    """(step, seconds, peak MB) of each step."""
    steps = [["imports", None, peak_mb()]]

    def step(name: str, action: Callable):
        start = perf_counter()
        result = action()
        steps.append([name, perf_counter() - start, peak_mb()])
        return result

    store = step("open", lambda: FeatureStore.open(folder / "view.zarr"))
    keys = step("list the keys", lambda: store.keys)
    chosen = np.random.default_rng(1).choice(len(keys), CHOSEN, replace=False)
    wanted = [keys[i] for i in chosen]
    values = step(f"read one layer of {CHOSEN:,} random rows", lambda: store.pooled(wanted, ["5"]))
    if not np.array_equal(values[:, 0, 0], chosen):
        raise ValueError(f"{folder}: the rows read are not those asked for")
    step("read them again", lambda: store.pooled(wanted, ["5"]))
    return steps


def _dataset(folder: Path):
    """All utterances, and what their values are to be closed by."""
    from strata.pipeline.study.gathered import Gathered
    from strata.trainers.inputs.data import Dataset

    store = FeatureStore.open(folder / "view.zarr")
    keys, gathered = store.keys, Gathered(folder)
    labels = pd.DataFrame({"speaker": [f"s{int(key, 16) % SPEAKERS}" for key in keys]})
    return Dataset(keys, keys, labels, {"view": gathered.pooled("view", store, store.layer_names, keys)}), gathered


def _sections(**more: object) -> tuple[dict, dict]:
    from strata.trainers.spec import Task

    shared = {"epochs": 1, "batch_size": BATCH, "folds": {"k": 2}, "embedding": EMBEDDING}
    return shared | more, {"speaker": Task(kind="classification")}


def _train(folder: Path, workers: int) -> dict:
    from strata.trainers.evaluation.experiment import num_models, run
    from strata.trainers.spec import Experiment

    start = perf_counter()
    section, tasks = _sections(views=["view"], layers="all", encoder="unified", tasks=["speaker"])
    # With the final model, at least one for every worker.
    how = Experiment(**section, seeds=list(range((workers + 1) // 2)))
    data, gathered = _dataset(folder)
    found = run(how, tasks, data, workers=workers)
    if workers == 1:
        found.predictor.save(folder / "model", {})
    gathered.close()
    return {"what": f"`unified`, {num_models(how)} models", "seconds": perf_counter() - start}


def _eliminate(folder: Path, workers: int) -> dict:
    from strata.trainers.search.rounds import eliminate
    from strata.trainers.spec import Elimination

    start = perf_counter()
    section, tasks = _sections(view="view", tasks=["speaker"])
    data, gathered = _dataset(folder)
    done = []

    class Enough(Exception):
        """So many rounds are to be measured."""

    def note(key, found) -> None:
        done.append(key)
        if len(done) == ROUNDS * (section["folds"]["k"] + 1):
            raise Enough

    with contextlib.suppress(Enough):
        eliminate(Elimination(**section), tasks, data, [str(i) for i in range(LAYERS)], note=note, workers=workers)
    gathered.close()
    return {"what": f"{ROUNDS} rounds, {len(done)} models", "seconds": perf_counter() - start}


def _verify(folder: Path, workers: int) -> dict:
    from strata.trainers.evaluation.predictor import Predictor
    from strata.trainers.evaluation.verification import verify
    from strata.trainers.inputs.data import Dataset
    from strata.trainers.spec import Verification

    start = perf_counter()
    data, gathered = _dataset(folder)
    predictor, _ = Predictor.load(folder / "model")
    view, embedding = data.features["view"], np.empty((len(data), 1, EMBEDDING), np.float32)
    for part in view.parts(np.arange(len(data))):
        embedding[part, 0] = predictor.embed({"view": view.take(part)[0]})
    gathered.close()
    data = Dataset(data.utterances, data.contents, data.labels, {"embedding": embedding})
    found = verify(Verification(views=["embedding"], verify="speaker", folds={"k": 2}), data, "embedding")
    return {
        "what": f"embedded in {EMBEDDING} dimensions, {found.metrics['num_trials']:,} trials",
        "seconds": perf_counter() - start,
    }


STEPS = {"read": _read, "train": _train, "eliminate": _eliminate, "verify": _verify}

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    sys.exit(main())
