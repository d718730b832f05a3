"""The store against the plain file and the usual layouts: what checksums, layers and commits cost (DESIGN §11)."""

import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks import seconds, write_table
from benchmarks.layouts import LAYOUTS, Layout, Npy, Strata

ROWS, LAYERS, DIM = 4096, 13, 768
LAYER = 5
CHOSEN = 1000
REPEATS = 5
OPEN, READ_ALL, READ_LAYER = "open", "read all pooled", f"read one layer of {LAYERS}"
READ_ROWS, WRITE, APPEND = f"read {CHOSEN:,} random rows of one layer", "first write of all rows", "append 1 %"
MEGABYTES, FILES = "MB on disk", "files"
COMMAND = "python -m benchmarks.store"


def main() -> None:
    """Measures in a temporary folder and writes both tables."""
    values = np.random.default_rng(0).normal(size=(ROWS, LAYERS, DIM)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        found = {layout.name: _measured(layout, Path(folder), values) for layout in LAYOUTS}
    size = f"{ROWS} rows × {LAYERS} × {DIM} float32, {values.nbytes / 1e6:.0f} MB"
    _write_goals(found[Strata.name], found[Npy.name], f"{size}, medians of {REPEATS}, page cache warm")
    _write_layouts(found, f"{size}, medians of {REPEATS}, page cache warm")


def _measured(layout: type[Layout], folder: Path, values: np.ndarray) -> dict[str, float]:
    """Median seconds of every task, and what the first write left on disk."""
    keys = [f"{i:032x}" for i in range(ROWS)]
    rows = np.random.default_rng(1).integers(0, ROWS, CHOSEN)
    place = folder / layout.__name__
    writes = []
    for _ in range(REPEATS):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        subject = layout(place)
        writes.append(_once(lambda subject=subject: subject.write(keys, values)))
    files = [file for file in place.rglob("*") if file.is_file()]
    found = {
        WRITE: statistics.median(writes),
        MEGABYTES: sum(file.stat().st_size for file in files) / 1e6,
        FILES: len(files),
        OPEN: seconds(subject.open, REPEATS),
        READ_ALL: seconds(subject.read, REPEATS),
        READ_LAYER: seconds(lambda: subject.read_layer(LAYER), REPEATS),
        READ_ROWS: seconds(lambda: subject.read_rows(keys, rows, LAYER), REPEATS),
    }
    np.testing.assert_array_equal(subject.read(), values)
    np.testing.assert_array_equal(subject.read_layer(LAYER), values[:, LAYER])
    np.testing.assert_array_equal(subject.read_rows(keys, rows, LAYER), values[rows, LAYER])
    new = values[: ROWS // 100]
    appends = [
        _once(lambda r=repeat: subject.append([f"new{r}_{i:04d}" for i in range(len(new))], new))
        for repeat in range(REPEATS)
    ]
    subject.open()
    np.testing.assert_array_equal(subject.read()[ROWS:], np.concatenate([new] * REPEATS))
    shutil.rmtree(place)
    return found | {APPEND: statistics.median(appends)}


def _once(action: Callable[[], object]) -> float:
    start = perf_counter()
    action()
    return perf_counter() - start


def _write_goals(ours: dict[str, float], plain: dict[str, float], how: str) -> None:
    rows = [
        (READ_ALL, "`np.load` of the same bytes", f"{plain[READ_ALL] / ours[READ_ALL]:.2f}×", "≥ 0.7×"),
        (READ_LAYER, "reading all of them", f"{ours[READ_LAYER] / ours[READ_ALL] * LAYERS:.2f}/L", "≤ 1.5/L"),
        (APPEND, f"the {WRITE}", f"{ours[APPEND] / ours[WRITE]:.1%}, {ours[APPEND]:.3f} s", "≤ 1 % + a constant"),
    ]
    note = f"{how}, checksums verified in reads and syncs included in writes."
    write_table("Store", COMMAND, ["what", "against", "found", "reach"], rows, note)


def _write_layouts(found: dict[str, dict[str, float]], how: str) -> None:
    plain = found[Npy.name]
    tasks = (READ_ALL, READ_LAYER, READ_ROWS, WRITE, APPEND)
    rows = [[OPEN, *(f"{each[OPEN] * 1e3:.1f} ms" for each in found.values())]]
    rows += [[task, *(_cell(each[task], plain[task]) for each in found.values())] for task in tasks]
    rows.append([MEGABYTES, *(f"{each[MEGABYTES]:.1f}" for each in found.values())])
    rows.append([FILES, *(f"{each[FILES]:,.0f}" for each in found.values())])
    lines = [
        f"{how}; in parentheses as multiples of `np.load`'s time: less is faster.",
        "Only Strata and HDF5 check what they read (a CRC-32C and a Fletcher-32 per chunk).",
        "Only Strata syncs what it writes to the disk; the others leave it to the operating system.",
        "To append, `np.load` and the pickle rewrite their file in place: a kill destroys it, and may spoil HDF5's.",
        "`np.load` maps the file where less than all is read, and knows no keys; a pickle runs any code that is in it.",
    ]
    write_table("Store against other layouts", COMMAND, ["", *found], rows, "\n".join(lines))


def _cell(time: float, plain: float) -> str:
    ratio = time / plain
    return f"{time * 1e3:,.{1 if time < 1 else 0}f} ms ({ratio:,.{2 if ratio < 1 else 1 if ratio < 100 else 0}f}×)"


if __name__ == "__main__":
    main()
