"""What an export holds, for HDF5's other readers too; it is whole, or not there."""

import json
import shutil
import subprocess
import sys
from collections import namedtuple

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.store import CorruptStore, FeatureStore, StoreError, hdf5
from tests.store.hdf5.stores import BLOCK, DATASETS, DIM, FRAME_DIM, LAYERS, assert_same, create


def test_an_export_imported_elsewhere_is_the_same_store(store, file, tmp_path):
    """Over several blocks with holes behind them; the file names no place."""
    moved = tmp_path / "other machine" / "x.h5"
    moved.parent.mkdir()
    file.rename(moved)
    assert_same(hdf5.read(moved, tmp_path / "far" / "new.zarr"), store)
    again = FeatureStore.open(tmp_path / "far" / "new.zarr")
    assert_same(again, store)
    assert again.verify() == []


def test_plain_h5py_reads_it_all(store, file):
    """By the names, shapes and types that the module's docstring promises."""
    with h5py.File(file) as source:
        assert source["key"].asstr()[:].tolist() == store.keys
        assert source["layer_names"].asstr()[:].tolist() == list(LAYERS)
        assert json.loads(source.attrs["fingerprint"]) == store.header.fingerprint
        numbers = {"format_version": 1, "dim": DIM, "frame_dim": FRAME_DIM, "block_rows": BLOCK, "frame_rate_hz": 49.95}
        assert {name: source.attrs[name] for name in numbers} == numbers
        np.testing.assert_array_equal(source["pooled"][:], store.pooled())
        np.testing.assert_array_equal(source["pooled"][:, 1], store.pooled(layers=["1"])[:, 0])
        types = {name: source[name].dtype for name in ("pooled", "num_frames", "frames_start", "frames/1")}
        assert types == {"pooled": "<f4", "num_frames": "<i4", "frames_start": "<i8", "frames/1": "<f4"}
        for i, values in enumerate(store.frames(store.keys, "1")):
            start, length = source["frames_start"][i], source["num_frames"][i]
            np.testing.assert_array_equal(source["frames/1"][start : start + length], values)


def test_matlab_can_read_it(file):
    """As far as can be told without one: HDF5 1.8's superblock, plain types, fixed-length strings, known filters."""
    with h5py.File(file) as source:
        assert source.id.get_create_plist().get_version()[0] == 2
        items = {}
        source.visititems(items.__setitem__)
        datasets = {name: item for name, item in items.items() if isinstance(item, h5py.Dataset)}
        assert datasets.keys() == {*DATASETS, "frames/last_hidden_state", "notes"}
        for name, dataset in datasets.items():
            options = dataset.id.get_create_plist()
            filters = [options.get_filter(i)[0] for i in range(options.get_nfilters())]
            assert filters == [h5py.h5z.FILTER_FLETCHER32], name
        values = {name: dataset.id for name, dataset in datasets.items()}
        for name, value in (values | {name: source.attrs.get_id(name) for name in source.attrs}).items():
            kind = value.get_type()
            assert kind.get_class() in (h5py.h5t.FLOAT, h5py.h5t.INTEGER, h5py.h5t.STRING), name
            assert not isinstance(kind, h5py.h5t.TypeStringID) or not kind.is_variable_str(), name


def test_a_layer_lies_in_chunks_of_its_own(file):
    """So that one layer of all rows costs one layer."""
    with h5py.File(file) as source:
        assert source["pooled"].chunks == (42, 1, DIM)


@settings(max_examples=12)
@given(data=st.data())
def test_any_store_makes_the_round_trip(tmp_path_factory, data):
    """Any shape, also without rows, frames, or both; values that a careless cast would change; any text as key."""
    folder = tmp_path_factory.mktemp("s")
    layers = [str(i) for i in range(data.draw(st.integers(1, 4)))]
    dim, frame_dim, count = (data.draw(st.integers(low, high)) for low, high in ((1, 5), (1, 3), (0, 15)))
    kept = data.draw(st.permutations(layers))[: data.draw(st.integers(0, len(layers)))]
    store = create(
        folder / "view.zarr",
        layer_names=layers,
        dim=dim,
        frame_dim=frame_dim,
        frame_layers=kept,
        frame_rate_hz=data.draw(st.floats(0, 1e6)),
        block_rows=data.draw(st.integers(1, 9)),
    )
    text = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=16)
    keys = data.draw(st.lists(text, min_size=count, max_size=count, unique=True))
    counts = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    odd = np.array([0.0, -0.0, 1e-45, -1e-38, 3.4e38, 1 / 3], np.float32)
    frames = {layer: [rng.choice(odd, (n, frame_dim)) for n in counts] for layer in kept}
    if keys:
        store.append(keys, rng.choice(odd, (count, len(layers), dim)), counts, frames)
    hdf5.write(store, folder / "view.h5")
    assert_same(hdf5.read(folder / "view.h5", folder / "new.zarr"), store)


def test_many_parts_make_one_file(store, tmp_path, monkeypatch):
    """Parts smaller than a row: one row at a time."""
    monkeypatch.setattr(hdf5, "PART_BYTES", 1)
    monkeypatch.setattr(hdf5, "CHUNK_BYTES", 100)
    done = []
    hdf5.write(store, tmp_path / "view.h5", lambda *progress: done.append(progress))
    assert done == [(i + 1, 42) for i in range(42)]
    assert_same(hdf5.read(tmp_path / "view.h5", tmp_path / "new.zarr"), store)


MEASURED = """
import sys, tracemalloc
from pathlib import Path
from strata.store import FeatureStore, hdf5

hdf5.PART_BYTES = 2**18
folder = Path(sys.argv[1])
store = FeatureStore.open(folder / "view.zarr")
for action in (
    lambda: hdf5.write(store, folder / "view.h5"),
    lambda: hdf5.read(folder / "view.h5", folder / "new.zarr"),
):
    tracemalloc.start()
    action()
    print(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
"""


def test_memory_is_bounded_by_the_part_not_by_the_store(tmp_path):
    """9 MB of values pass through parts of a quarter of one, in both directions; measured in a process of its own,
    where nothing else is allocated."""
    store = create(tmp_path / "view.zarr", dim=331, frame_layers=("1",), frame_dim=331, block_rows=64)
    rng = np.random.default_rng(0)
    for start in range(0, 256, 64):
        frames = {"1": list(rng.normal(size=(64, 23, 331)).astype(np.float32))}
        keys = [str(i) for i in range(start, start + 64)]
        store.append(keys, rng.normal(size=(64, 3, 331)).astype(np.float32), [23] * 64, frames)
    done = subprocess.run([sys.executable, "-c", MEASURED, tmp_path], capture_output=True, text=True, check=True)
    peaks = [int(line) for line in done.stdout.split()]
    assert len(peaks) == 2
    assert max(peaks) < 4 * 2**20
    assert_same(FeatureStore.open(tmp_path / "new.zarr"), store)


def test_an_existing_file_is_never_written_over(store, file):
    """Whatever it is."""
    before = file.read_bytes()
    with pytest.raises(StoreError, match=r"view.h5 is there already: remove it, or name another file"):
        hdf5.write(store, file)
    assert file.read_bytes() == before


def test_a_damaged_store_is_not_exported(store, tmp_path):
    """The store's own message, and no file."""
    shard = store.path / "pooled/c/1/0/0"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(CorruptStore, match="block 1"):
        hdf5.write(store, tmp_path / "view.h5")
    assert sorted(path.name for path in tmp_path.glob("*.h5*")) == []


def test_an_interrupted_export_leaves_no_file(store, tmp_path):
    """At whatever part."""

    def interrupt(done, rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hdf5.write(store, tmp_path / "view.h5", interrupt)
    assert sorted(path.name for path in tmp_path.glob("*.h5*")) == []


def test_a_disk_that_is_too_small_is_seen_before_the_work(store, tmp_path, monkeypatch):
    """For the file and for the store."""
    hdf5.write(store, tmp_path / "view.h5")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9, 8, 1))
    with pytest.raises(StoreError, match=r"other.h5 needs 0.0 GB and its disk has 0.0 GB free; make room"):
        hdf5.write(store, tmp_path / "other.h5")
    with pytest.raises(StoreError, match=r"new.zarr needs"):
        hdf5.read(tmp_path / "view.h5", tmp_path / "new.zarr")
    assert not (tmp_path / "new.zarr").exists()
    assert sorted(path.name for path in tmp_path.glob("*.h5*")) == ["view.h5"]


FULL = """
import resource, sys
from strata.store import FeatureStore, StoreError, hdf5
store = FeatureStore.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    hdf5.write(store, sys.argv[2])
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("room", [0, 4_000, 30_000])
def test_a_disk_that_fills_up_leaves_no_half_file(store, tmp_path, room):
    """Nor does it end the process, as HDF5 by itself would."""
    command = [sys.executable, "-c", FULL, store.path, tmp_path / "x.h5", str(room)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert "x.h5 could not be written (File too large); nothing was left behind" in done.stdout
    assert sorted(path.name for path in tmp_path.glob("x.h5*")) == []


def test_a_layer_that_hdf5_cannot_name_is_refused(tmp_path):
    """It would become a folder in the file."""
    store = create(tmp_path / "view.zarr", layer_names=("a/b",), frame_layers=("a/b",))
    with pytest.raises(StoreError, match="a layer named 'a/b'"):
        hdf5.write(store, tmp_path / "view.h5")


def test_the_store_itself_needs_no_hdf5():
    """h5py is imported by whoever exports or imports."""
    code = "import sys, store; print('h5py' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
