import json
import re
import shutil
import subprocess
import sys
from collections import namedtuple

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.store import CorruptStore, FeatureStore, FingerprintMismatch, StoreError, StoreLocked, hdf5
from tests.sampling import sampled

LAYERS, DIM, FRAME_DIM, BLOCK = ("0", "1", "last_hidden_state"), 7, 5, 11  # distinct primes: swapped axes cannot pass
HEADER = ("fingerprint", "layer_names", "frame_layers", "dim", "frame_dim", "frame_rate_hz", "block_rows", "format")
DATASETS = ("key", "pooled", "num_frames", "frames_start", "frames/1", "crc32", "layer_names", "frame_layers")


def create(path, **changes):
    options = {
        "fingerprint": {"family": "test", "layers": ["0", "1"], "größe": 0.1, "nested": {"revision": None}},
        "layer_names": LAYERS,
        "dim": DIM,
        "frame_rate_hz": 49.95,
        "frame_layers": ("last_hidden_state", "1"),
        "frame_dim": FRAME_DIM,
        "block_rows": BLOCK,
    }
    return FeatureStore.create(path, **options | changes)


def fill(store, count, seed=0):
    """Appends `count` rows; a few have no frame at all."""
    rng, header = np.random.default_rng(seed), store.header
    counts = rng.integers(0, 5, count)
    frames = {
        layer: [rng.normal(size=(n, header.frame_dim)).astype(np.float32) for n in counts]
        for layer in header.frame_layers
    }
    pooled = rng.normal(size=(count, len(header.layer_names), header.dim)).astype(np.float32)
    store.append([f"{seed}/ä{i}" for i in range(count)], pooled, counts, frames)
    return store


def assert_same(found, expected):
    """To the bit: headers, keys in order, values, counts and frames."""
    for name in HEADER:
        assert getattr(found.header, name) == getattr(expected.header, name)
    keys = expected.keys
    assert found.keys == keys
    assert found.pooled().tobytes() == expected.pooled().tobytes()
    assert found.num_frames().tolist() == expected.num_frames().tolist()
    for layer in expected.header.frame_layers:
        pairs = zip(found.frames(keys, layer), expected.frames(keys, layer), strict=True)
        assert all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


@pytest.fixture
def store(tmp_path):
    return fill(fill(create(tmp_path / "view.zarr"), 29, seed=1), 13, seed=2)


@pytest.fixture
def file(store, tmp_path):
    hdf5.write(store, tmp_path / "view.h5")
    return tmp_path / "view.h5"


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
        assert datasets.keys() == {*DATASETS, "frames/last_hidden_state"}
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


# -- export refused ----------------------------------------------------------------------------------------------------


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


# -- merge -------------------------------------------------------------------------------------------------------------


def test_stores_of_two_machines_become_one(store, file, tmp_path):
    """Only rows that are missing are appended, whatever the store's own blocks are; a second import adds none."""
    other = fill(create(tmp_path / "other.zarr", block_rows=4), 13, seed=2)
    fill(other, 5, seed=3)
    mine = other.pooled()
    merged = hdf5.read(file, other.path)
    assert merged.keys == [*other.keys, *(key for key in store.keys if key.startswith("1/"))]
    assert merged.pooled()[:18].tobytes() == mine.tobytes()
    assert merged.pooled(store.keys).tobytes() == store.pooled().tobytes()
    for layer in store.header.frame_layers:
        for found, expected in zip(merged.frames(store.keys, layer), store.frames(store.keys, layer), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert len(hdf5.read(file, other.path)) == len(merged) == 47


def test_scattered_rows_are_imported_too(store, file, tmp_path):
    """The store has every third row already."""
    other = create(tmp_path / "other.zarr")
    keys, counts = store.keys[::3], store.num_frames(store.keys[::3])
    frames = {layer: store.frames(keys, layer) for layer in store.header.frame_layers}
    other.append(keys, store.pooled(keys), counts, frames)
    merged = hdf5.read(file, other.path)
    assert sorted(merged.keys) == sorted(store.keys)
    assert merged.pooled(store.keys).tobytes() == store.pooled().tobytes()


def test_another_models_values_are_refused(file, tmp_path):
    """By the fields that differ, and nothing is added."""
    other = create(tmp_path / "other.zarr", fingerprint={"family": "other"})
    with pytest.raises(FingerprintMismatch, match="family: stored 'other', wanted 'test'"):
        hdf5.read(file, other.path)
    assert len(FeatureStore.open(other.path)) == 0


def test_a_store_of_another_layout_is_refused(file, tmp_path):
    """By the fields that differ."""
    other = create(tmp_path / "other.zarr", dim=6, frame_layers=("1",))
    with pytest.raises(StoreError, match=r"dim: 6 there, 7 in it.*import it to another path") as error:
        hdf5.read(file, other.path)
    assert "frame_layers: ['1'] there, ['last_hidden_state', '1'] in it" in str(error.value)


def test_an_import_waits_for_no_other_writer(store, file):
    """Two writers of one store: the second is refused."""
    with store.locked(), pytest.raises(StoreLocked):
        hdf5.read(file, store.path)


# -- import refused ----------------------------------------------------------------------------------------------------


def flipped(file, offset, bit=4):
    data = bytearray(file.read_bytes())
    data[offset] ^= 1 << bit
    file.write_bytes(data)


@pytest.mark.parametrize("dataset", DATASETS)
def test_damage_is_refused_and_leaves_no_store(file, tmp_path, dataset):
    """A flipped bit in the values of any dataset."""
    with h5py.File(file) as source:
        chunk = source[dataset].id.get_chunk_info(0)
    flipped(file, chunk.byte_offset + chunk.size // 3)
    with pytest.raises(StoreError, match=r"view.h5: .* \(.*\); copy or export it again") as error:
        hdf5.read(file, tmp_path / "new.zarr")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new.zarr").exists()


@pytest.mark.parametrize("keep", [24, pytest.param(None, id="all", marks=pytest.mark.slow)])
def test_damage_in_the_index_of_the_chunks_is_refused(store, tmp_path, monkeypatch, keep):
    """HDF5 1.8 has no checksum there: chunks are lost, or exchanged, read without an error, or crash it."""
    monkeypatch.setattr(hdf5, "CHUNK_BYTES", 256)
    file = tmp_path / "view.h5"
    hdf5.write(store, file)
    whole = file.read_bytes()
    nodes = [match.start() for match in re.finditer(b"TREE", whole)]
    offsets = (0, 6, 24, 28, 32, 40, 56, 64)  # signature, entries, then size, filter, coordinates, address
    places, refused = sampled((node + offset for node in nodes for offset in offsets), keep), 0
    for place in places:
        file.write_bytes(whole)
        flipped(file, place, bit=2)
        try:
            assert_same(hdf5.read(file, tmp_path / "new.zarr"), store)
            shutil.rmtree(tmp_path / "new.zarr")
        except StoreError:
            refused += 1
            shutil.rmtree(tmp_path / "new.zarr", ignore_errors=True)
    assert refused > len(places) / 3


def test_exchanged_rows_are_refused(file, tmp_path):
    """Every checksum of HDF5 is right, the row's is not."""
    with h5py.File(file, "r+") as target:
        target["pooled"][[3, 4]] = target["pooled"][[3, 4]][::-1]
    with pytest.raises(StoreError, match=r"damaged in rows 0 to 10 \(the CRC-32 of row 3 does not match\)"):
        hdf5.read(file, tmp_path / "new.zarr")


def test_what_was_committed_before_the_damage_stays_and_a_good_copy_goes_on(store, file, tmp_path):
    """Whole blocks, and no row of the damaged one."""
    good = file.read_bytes()
    with h5py.File(file, "r+") as target:
        target["pooled"][25, 1, 3] += 1
    path = tmp_path / "new.zarr"
    with pytest.raises(StoreError, match=r"damaged in rows 22 to 32 .*goes on behind the rows that it committed"):
        hdf5.read(file, path)
    partial = FeatureStore.open(path)
    assert partial.keys == store.keys[:22]
    assert partial.pooled().tobytes() == store.pooled()[:22].tobytes()
    assert partial.verify() == []
    file.write_bytes(good)
    assert_same(hdf5.read(file, path), store)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda data: data[:-1000], "truncated file"),
        (lambda data: data[:100], "expected a whole file of `strata store export`, found one that cannot be read"),
        (lambda data: b"", "expected a whole file of `strata store export`, found one that cannot be read"),
        (lambda data: b"key,value\n" * 1000, "expected a whole file of `strata store export`"),
        (lambda data: data.replace(b"strata features", b"strata Features"), "metadata checksum"),
    ],
)
def test_what_is_no_whole_export_is_refused(file, tmp_path, content, message):
    """In one line with the next step, and no store is made."""
    file.write_bytes(content(file.read_bytes()))
    with pytest.raises(StoreError, match=message) as error:
        hdf5.read(file, tmp_path / "new.zarr")
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("copy or export it again")
    assert not (tmp_path / "new.zarr").exists()


def test_another_hdf5_file_and_a_later_format_are_told_apart(file, tmp_path):
    """What was expected, what was found."""
    with h5py.File(tmp_path / "foreign.h5", "w") as target:
        target["pooled"] = np.zeros((2, 3))
    with pytest.raises(StoreError, match="expected an export of format 'strata features' 1, found 'none' 0"):
        hdf5.read(tmp_path / "foreign.h5", tmp_path / "new.zarr")
    with h5py.File(file, "r+") as target:
        target.attrs["format_version"] = 2
    with pytest.raises(StoreError, match="found 'strata features' 2"):
        hdf5.read(file, tmp_path / "new.zarr")
    with pytest.raises(StoreError, match=r"no file .*absent.h5: write one with `strata store export`"):
        hdf5.read(tmp_path / "absent.h5", tmp_path / "new.zarr")


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_dataset_that_is_gone_or_of_another_shape_is_refused(file, tmp_path, dataset):
    """Before a store is made."""
    with h5py.File(file, "r+") as target:
        values = target[dataset][:-1]
        del target[dataset]
    with pytest.raises(StoreError, match="cannot be read"):
        hdf5.read(file, tmp_path / "new.zarr")
    with h5py.File(file, "r+") as target:
        target.create_dataset(dataset, data=values)
    with pytest.raises(StoreError, match="cannot be read"):
        hdf5.read(file, tmp_path / "new.zarr")
    assert not (tmp_path / "new.zarr").exists()


def test_the_store_itself_needs_no_hdf5():
    """h5py is imported by whoever exports or imports."""
    code = "import sys, store; print('h5py' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
