"""Bytes that change behind the store's back are found, named, and never handed out."""

from itertools import product

import numpy as np
import pytest

from strata.store import CorruptStore, FeatureStore
from tests.sampling import sweep

KINDS = [
    "zarr.json",
    "pooled/zarr.json",
    "num_frames/zarr.json",
    "key/zarr.json",
    "frames/zarr.json",
    "frames/1/zarr.json",
    "pooled/c/1/0/0",
    "num_frames/c/1",
    "frames/1/000001/zarr.json",
    "frames/1/000001/c/0/0",
    "key/c/1/0",
]
"""A file of every kind; where a block is meant, the second of three."""
HARMLESS = KINDS[:6]
"""Documents on which no value depends."""


def damage(path, how):
    """Flips a bit, deletes the file, or cuts it in half."""
    data = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
    else:
        data[len(data) // 3] ^= 0x10
        path.write_bytes(data if how == "flip" else data[: len(data) // 2])


@pytest.fixture
def rows(store, small):
    rows = small.rows(29)
    store.append(*rows)
    return rows


@pytest.mark.parametrize(("file", "how"), sweep(product(KINDS, ("flip", "delete", "truncate")), keep=14))
def test_damage_is_named_and_never_read_as_a_value(store, small, rows, file, how):
    """In every kind of file; other blocks stay readable, and `retire` leaves just the damaged rows to do."""
    keys, pooled, counts, frames = rows
    damage(store.path / file, how)
    found = FeatureStore.open(store.path).verify()
    lost_commit = file == "key/c/1/0" and how == "delete"
    if lost_commit:
        assert found == [f"{store.path}: view view, block 1, rows 11 to 21: key: the file is gone"]
        assert FeatureStore.open(store.path).missing(keys) == keys[11:22]
    elif file in HARMLESS:
        assert any(f"view view, all blocks: {file} is not what was written" in line for line in found)
        small.assert_holds(FeatureStore.open(store.path), rows)
    else:
        assert all("view view, block 1, rows" in line for line in found)
        assert found
    again = FeatureStore.open(store.path)
    if file == "key/c/1/0" and not lost_commit:
        with pytest.raises(CorruptStore, match="block 1, rows 11 to 21: key"):
            _ = again.keys
    for i, key in enumerate(keys):  # right, or refused: nothing in between
        try:
            value, frame = again.pooled([key])[0], again.frames([key], "1")[0]
        except ValueError:
            assert 11 <= i < 22 or file == "key/c/1/0"
        else:
            np.testing.assert_array_equal(value, pooled[i])
            np.testing.assert_array_equal(frame, frames["1"][i])
    with again.locked():
        again.retire(again.damage())
        missing = again.missing(keys)
        assert set(missing) <= set(keys[11:22])
        todo = [keys.index(key) for key in missing]
        again.append(missing, pooled[todo], counts[todo], {"1": [frames["1"][i] for i in todo]})
    mended = FeatureStore.open(store.path)
    assert mended.verify() == []
    small.assert_holds(mended, rows)


@pytest.mark.parametrize("file", ["pooled/c/1/0/0", "num_frames/c/1", "key/c/1/0", "zarr.json", "key/zarr.json"])
@pytest.mark.parametrize("flips", [13, pytest.param(97, marks=pytest.mark.slow)])
def test_every_single_bit_counts(store, small, rows, file, flips):
    """Wherever in a file it flips."""
    path = store.path / file
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // flips)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        assert FeatureStore.open(store.path).verify(), at
    path.write_bytes(whole)
    assert FeatureStore.open(store.path).verify() == []


def test_only_the_rows_of_a_damaged_chunk_are_lost(tmp_path, small):
    """Of a block of 128 rows, the 64 of one chunk; the sound ones are kept, bit for bit."""
    store = small.create(tmp_path / "view.zarr", block_rows=128)
    rows = small.rows(150)
    store.append(*rows)
    path = store.path / "pooled/c/0/0/0"
    data = bytearray(path.read_bytes())
    data[64 * 7 * 4 * 3 + 100] ^= 1  # behind the three layers of the first 64 rows
    path.write_bytes(data)
    assert "view view, block 0, rows 64 to 127: pooled, layer 0: checksum" in FeatureStore.open(store.path).verify()[0]
    with store.locked():
        assert store.retire(store.damage()) == 64
        assert store.missing(rows[0]) == rows[0][64:128]
    kept = rows[0][:64] + rows[0][128:]
    np.testing.assert_array_equal(FeatureStore.open(store.path).pooled(kept), np.delete(rows[1], slice(64, 128), 0))


def test_one_layer_reads_one_layers_bytes(store, rows):
    """Reading a layer touches its chunks alone: damage in another layer goes unseen until that one is read."""
    path = store.path / "pooled/c/0/0/0"
    data = bytearray(path.read_bytes())
    data[10] ^= 1  # the first layer's chunk comes first
    path.write_bytes(data)
    store.pooled(layers=["1", "2"])
    with pytest.raises(CorruptStore, match=r"view view, block 0, rows 0 to 10.*strata store verify"):
        store.pooled(layers=["0"])


def test_what_has_not_changed_since_is_not_read_again(store, rows, monkeypatch):
    """By the signatures of the files; a block that somebody wrote is read, and only that."""
    known = store.signatures()
    assert set(known) == {"0", "1", "2"}
    read = []
    inner = store.storage.read_all
    monkeypatch.setattr(store.storage, "read_all", lambda name: (read.append(name), inner(name))[1])
    assert store.damage(unchanged=known) == []
    assert read == []
    damage(store.path / "num_frames/c/2", "flip")
    assert [found.block for found in store.damage(unchanged=known)] == [2]
    assert "num_frames/c/0" not in read


def test_a_retirement_that_is_cut_short_loses_no_sound_row_and_leaves_none_twice(tmp_path, small, monkeypatch):
    """The sound rows are in their new block before the old one goes; whoever sees both takes each row once."""
    store = small.create(tmp_path / "view.zarr", block_rows=128)
    keys, pooled, counts, frames = small.rows(150)
    store.append(keys, pooled, counts, frames)
    damage(store.path / "pooled/c/0/0/0", "flip")  # of the first 64 rows
    with store.locked(), monkeypatch.context() as broken:
        broken.setattr(store.storage, "remove", lambda name: (_ for _ in ()).throw(OSError("power cut")))
        with pytest.raises(OSError, match="power cut"):
            store.retire(store.damage())
    again = FeatureStore.open(store.path)
    last = again.dask()[-64:].compute(scheduler="synchronous")
    np.testing.assert_array_equal(last, again.pooled(again.keys[-64:]))
    for _ in range(2):
        with again.locked():
            again.retire(again.damage())
        assert again.verify() == []
        assert again.keys == keys[128:] + keys[64:128]
        np.testing.assert_array_equal(again.pooled(keys[64:]), pooled[64:])
        np.testing.assert_array_equal(again.dask().compute(scheduler="synchronous"), again.pooled())
        assert len(again.committed()) == 2


def test_a_reader_finds_the_rows_that_a_repair_has_moved(tmp_path, small):
    """It had opened the store before, and is not told that it is damaged."""
    store = small.create(tmp_path / "view.zarr", block_rows=128)
    keys, pooled, counts, frames = small.rows(128)
    store.append(keys, pooled, counts, frames)
    reader = FeatureStore.open(store.path)
    assert len(reader) == 128
    damage(store.path / "pooled/c/0/0/0", "flip")
    with store.locked():
        store.retire(store.damage())
    np.testing.assert_array_equal(reader.pooled(keys[64:]), pooled[64:])
    np.testing.assert_array_equal(reader.frames([keys[100]], "1")[0], frames["1"][100])


def test_a_reader_of_all_rows_keeps_the_order_of_the_keys_that_it_has_shown(tmp_path, small):
    """Though a repair has moved the rows, and the lost ones have come back behind all others."""
    store = small.create(tmp_path / "view.zarr", block_rows=128)
    keys, pooled, counts, frames = small.rows(200)
    store.append(keys, pooled, counts, frames)
    reader = FeatureStore.open(store.path)
    shown = reader.keys
    damage(store.path / "pooled/c/0/0/0", "flip")
    with store.locked():
        store.retire(store.damage())
        store.append(keys[:64], pooled[:64], counts[:64], {"1": frames["1"][:64]})
    assert FeatureStore.open(store.path).keys != shown
    np.testing.assert_array_equal(reader.pooled(), pooled)
    reader = FeatureStore.open(store.path)
    np.testing.assert_array_equal(reader.num_frames(shown), counts)


def test_a_damaged_store_of_format_1_is_mended_too(old_store):
    """Also where its frame counts are the damage, which its conversion would like to read."""
    damage(old_store / "num_frames/c/1", "flip")
    store = FeatureStore.open(old_store)
    with store.locked():
        assert store.retire(store.damage()) == 2
    assert store.verify() == []
    assert len(store) == 8
    assert store.header.format == 2


@pytest.mark.parametrize("at", [60, 120, 180, 240, 300])
def test_a_header_of_format_1_that_does_not_fit_is_never_sealed(old_store, at):
    """It has no hash of its own: what is not plainly damaged is held to the arrays before it is trusted for good."""
    path = old_store / "zarr.json"
    whole = path.read_bytes()
    for bit in range(8):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            with FeatureStore.open(old_store).locked() as store:
                assert (store.header.dim, store.header.block_rows, len(store.header.layer_names)) == (3, 5, 3)
            break  # a name was spelt otherwise: that a format without hashes cannot tell
        except ValueError:
            continue
