"""What is read from an export: rows that are missing, of the same model, and no damage."""

import re
import shutil

import h5py
import numpy as np
import pytest

from strata.store import FeatureStore, FingerprintMismatch, StoreError, StoreLocked, hdf5
from tests.sampling import sampled
from tests.store.hdf5.stores import DATASETS, assert_same, create, fill


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


def test_how_rows_came_about_goes_along(store, tmp_path):
    """Added to what the other store says of its own; a file that lacks it, or has it damaged, is imported all the
    same, for no value depends on it."""
    with store.locked():
        store.note("in_float32", ["b.conv", "a.conv"])
    other = fill(create(tmp_path / "other.zarr", block_rows=4), 2, seed=3)
    with other.locked():
        other.note("in_float32", ["z.conv"])
    hdf5.write(store, tmp_path / "noted.h5")
    assert hdf5.read(tmp_path / "noted.h5", other.path).notes == {"in_float32": ["a.conv", "b.conv", "z.conv"]}
    for number, spoilt in enumerate((None, "{", "[]", '{"in_float32": 1}')):
        file = shutil.copy(tmp_path / "noted.h5", tmp_path / f"{number}.h5")
        with h5py.File(file, "r+") as opened:
            del opened["notes"]
            if spoilt:
                opened["notes"] = [spoilt]
        found = hdf5.read(file, tmp_path / f"{number}.zarr")
        assert (found.notes, len(found)) == ({}, len(store))
