"""A store of 200,000 rows: what opening it and reading from it cost in a process of its own (DESIGN §11)."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks import peak_mb, write_table
from strata.store import FeatureStore

ROWS, LAYERS, DIM = 200_000, 13, 768
BATCH_ROWS = 1024
LAYER = 5
CHOSEN = 1000
READER = "--read"


def main() -> int:
    """Writes the store into a temporary folder, has it read, and writes the table; returns the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        needed, free = 1.1 * 4 * ROWS * LAYERS * DIM, shutil.disk_usage(folder).free
        if free < needed:
            print(
                f"benchmarks.scale: skipped, it needs {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free; "
                "name a larger disk by TMPDIR",
                file=sys.stderr,
            )
            return 1
        path = Path(folder) / "view.zarr"
        start = perf_counter()
        _write(path)
        writing = perf_counter() - start
        files = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
        command = [sys.executable, "-m", "benchmarks.scale", READER, str(path)]
        steps = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    size = f"{ROWS:,} rows × {LAYERS} × {DIM} float32: {sum(files) / 1e9:.2f} GB in {len(files)} files"
    note = (
        f"{size}, written in {writing:.0f} s, {BATCH_ROWS} rows at a time, syncs included.\n"
        "Read by a fresh process, page cache as the writing left it; peak is its resident memory up to there."
    )
    rows = [[name, "–" if seconds is None else f"{seconds:.3f} s", f"{peak:.0f} MB"] for name, seconds, peak in steps]
    write_table("Scale", "python -m benchmarks.scale", ["step", "time", "peak"], rows, note)
    return 0


def _write(path: Path) -> None:
    """Random values, but for the first of each vector, which is the number of its row."""
    values = np.random.default_rng(0).standard_normal((BATCH_ROWS, LAYERS, DIM), np.float32)
    store = FeatureStore.create(path, fingerprint={}, layer_names=[str(i) for i in range(LAYERS)], dim=DIM)
    for start in range(0, ROWS, BATCH_ROWS):
        numbers = np.arange(start, min(start + BATCH_ROWS, ROWS))
        values[: len(numbers), :, 0] = numbers[:, None]
        store.append([f"{i:032x}" for i in numbers], values[: len(numbers)], np.ones(len(numbers), int))


def _read(path: Path) -> None:
    """Prints (step, seconds, peak MB) for each step as JSON."""
    steps = [["imports", None, peak_mb()]]

    def step(name: str, action):
        start = perf_counter()
        result = action()
        steps.append([name, perf_counter() - start, peak_mb()])
        return result

    store = step("open", lambda: FeatureStore.open(path))
    keys = step("list the keys", lambda: store.keys)
    chosen = np.random.default_rng(1).choice(len(keys), CHOSEN, replace=False)
    wanted = [keys[i] for i in chosen]
    values = step(f"read one layer of {CHOSEN:,} random rows", lambda: store.pooled(wanted, [str(LAYER)]))
    if len(keys) != ROWS or not np.array_equal(values[:, 0, 0], chosen):
        raise ValueError(f"{path}: the rows read are not those asked for")
    step("read them again", lambda: store.pooled(wanted, [str(LAYER)]))
    print(json.dumps(steps))


if __name__ == "__main__":
    sys.exit(_read(Path(sys.argv[2])) if READER in sys.argv else main())
