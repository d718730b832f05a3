"""The store against the plain file: what the checksums, the layers and the commits cost (DESIGN §11)."""

import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks import seconds, write_table
from store import FeatureStore

ROWS, LAYERS, DIM = 4096, 13, 768
BATCH = 256


def main() -> None:
    """Measures in a temporary folder and writes the table."""
    values = np.random.default_rng(0).normal(size=(ROWS, LAYERS, DIM)).astype(np.float32)
    keys = [f"{i:032x}" for i in range(ROWS)]
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "values.npy"
        np.save(plain, values)
        names = [str(i) for i in range(LAYERS)]
        store = FeatureStore.create(Path(folder) / "view.zarr", fingerprint={}, layer_names=names, dim=DIM)
        first = _append_seconds(store, keys, values)
        more = ROWS // 100
        one_percent = _append_seconds(store, [f"new{i}" for i in range(more)], values[:more])
        np.testing.assert_array_equal(store.pooled(keys), values)
        load = seconds(lambda: np.load(plain))
        everything = seconds(lambda: store.pooled())
        one_layer = seconds(lambda: store.pooled(layers=["5"]))
    rows = [
        ("read all pooled", "`np.load` of the same bytes", f"{load / everything:.2f}×", "≥ 0.7×"),
        ("read one layer of 13", "reading all of them", f"{one_layer / everything * LAYERS:.2f}/L", "≤ 1.5/L"),
        (
            "append 1 %",
            "the first write of all rows",
            f"{one_percent / first:.1%}, {one_percent:.3f} s",
            "≤ 1 % + a constant",
        ),
    ]
    size = f"{ROWS} rows × {LAYERS} × {DIM} float32, {values.nbytes / 1e6:.0f} MB"
    note = f"{size}, page cache warm, syncs included in writes."
    write_table("Store", "python -m benchmarks.store", ["what", "against", "found", "reach"], rows, note)


def _append_seconds(store: FeatureStore, keys: list[str], values: np.ndarray) -> float:
    start = perf_counter()
    for i in range(0, len(keys), BATCH):
        part = slice(i, i + BATCH)
        store.append(keys[part], values[part], [1] * len(keys[part]))
    return perf_counter() - start


if __name__ == "__main__":
    main()
