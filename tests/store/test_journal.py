"""What a run that was stopped had computed waits beside its store, whole and checked, for the run that goes on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from strata.store import FeatureStore, Journal, journal
from strata.store.blocks import Rows
from strata.store.opening import storage_of


def part(small, start: int, stop: int, seed: int = 0) -> Rows:
    """Some of a block's rows."""
    return Rows(*small.rows(11, seed=seed)).part(start, stop)


def assert_kept(found: Journal, small, *parts: Rows) -> None:
    """These rows, bit for bit, and no others."""
    expected = {key: (rows, i) for rows in parts for i, key in enumerate(rows.keys)}
    assert found.keys == set(expected)
    seen = []
    for rows, _ in found.rows(list(expected)):
        for i, key in enumerate(rows.keys):
            original, at = expected[key]
            np.testing.assert_array_equal(rows.pooled[i], original.pooled[at])
            np.testing.assert_array_equal(rows.num_frames[i], original.num_frames[at])
            np.testing.assert_array_equal(rows.frames["1"][i], original.frames["1"][at])
        seen += rows.keys
    assert sorted(seen) == sorted(expected)


def test_rows_wait_beside_the_store_and_are_none_of_its(place, small):
    """On a disk and in a bucket: readers of the store see nothing of them; who fills their block has them back."""
    store = small.create(place)
    first, second = part(small, 0, 4), part(small, 4, 11)
    for rows in (first, second):
        Journal(store.storage, store.header).add(rows)
    found = Journal(store.storage, store.header)
    assert_kept(found, small, first, second)
    assert [rows.keys for rows, _ in found.rows([second.keys[3], "unknown"])] == [[second.keys[3]]]
    store = FeatureStore.open(place)
    assert (len(store), store.verify()) == (0, [])
    assert {name.split("/")[0] for name in store.storage.names()} <= {
        "zarr.json",
        "pooled",
        "num_frames",
        "key",
        "frames",
    }


def test_what_is_committed_goes_entry_by_entry_and_in_the_end_all(place, small):
    """An entry with a row that is not committed stays; in the end no file and no folder is left."""
    store = small.create(place)
    kept, (first, second) = Journal(store.storage, store.header), (part(small, 0, 4), part(small, 4, 11))
    kept.begin([[*first.keys, *second.keys]])
    kept.add(first)
    kept.add(second)
    kept.forget([*first.keys, *second.keys[1:]])
    assert_kept(kept, small, second)
    assert kept.plan == [[*first.keys, *second.keys]]
    kept.clear()
    assert (kept.keys, kept.plan) == (set(), [])
    assert storage_of(kept.place).names() == []
    kept.clear()  # nothing there is no error


def test_nothing_is_left_in_the_folder_of_the_store(store, small):
    """Whoever lists it sees the store alone."""
    kept = Journal(store.storage, store.header)
    kept.add(part(small, 0, 4))
    assert sorted(path.name for path in store.path.parent.iterdir()) == [
        Path(kept.place).name,
        "view.lock",
        "view.zarr",
    ]
    kept.clear()
    assert sorted(path.name for path in store.path.parent.iterdir()) == ["view.lock", "view.zarr"]


def test_rows_of_another_view_are_never_taken(store, small):
    """Another fingerprint, other layers or widths; the size of a block is seen in no row."""
    rows = part(small, 0, 4)
    Journal(store.storage, store.header).add(rows)
    for changes in ({"fingerprint": {"family": "other"}}, {"frame_layers": []}, {"dim": 8}, {"layer_names": ["0"]}):
        other = Journal(store.storage, replace(store.header, **changes))
        assert (other.keys, list(other.rows(rows.keys))) == (set(), [])
        other.clear()
    assert_kept(Journal(store.storage, replace(store.header, block_rows=64)), small, rows)
    journal.drop(store.path)
    assert Journal(store.storage, store.header).keys == set()
    assert not list(store.path.parent.glob("*.tmp"))


@pytest.mark.parametrize("file", ["key", "pooled", "num_frames", "frames"])
@pytest.mark.parametrize("how", ["gone", "cut", "flipped"])
def test_an_entry_that_is_torn_is_not_there(store, small, file, how):
    """Its rows are computed anew; those of the others stay."""
    kept, sound = Journal(store.storage, store.header), part(small, 4, 11)
    kept.add(part(small, 0, 4))
    torn = next(
        path
        for path in Path(kept.place).rglob("*")
        if path.is_file() and f"/{file}/" in str(path) and path.suffix == ""
    )
    kept.add(sound)
    data = bytearray(torn.read_bytes())
    torn.unlink()
    data[len(data) // 3] ^= 4
    if how != "gone":
        torn.write_bytes(data if how == "flipped" else data[: len(data) // 2])
    found = Journal(store.storage, store.header)
    keys = [*part(small, 0, 4).keys, *sound.keys]
    assert [rows.keys for rows, _ in found.rows(keys)] == [sound.keys]
    found.forget(keys)


def test_notes_come_back_with_their_rows_and_go_with_them(place, small):
    """Those of each entry its own; rows of which nothing was noted have none, and notes that are damaged are no notes
    of sound rows."""
    store = small.create(place)
    kept, (first, second) = Journal(store.storage, store.header), (part(small, 0, 4), part(small, 4, 11))
    kept.add(first, ("b.conv", "a.conv"))
    kept.add(second)
    found = {rows.keys[0]: notes for rows, notes in kept.rows([*first.keys, *second.keys])}
    assert found == {first.keys[0]: ["a.conv", "b.conv"], second.keys[0]: []}
    waiting = storage_of(kept.place)
    (name,) = waiting.names("note")
    whole = waiting.read_all(name)
    waiting.write(name, [whole[:-1]])
    assert [rows.keys for rows, _ in kept.rows([*first.keys, *second.keys])] == [second.keys]
    waiting.write(name, [whole])
    kept.forget(first.keys)
    assert waiting.names("note") == []


def test_what_waits_under_other_identities_can_be_removed(store, small):
    """It is of no use to the store as it is now; its own rows stay, and so do those of a store beside it."""
    own, rows = Journal(store.storage, store.header), part(small, 0, 4)
    own.add(rows)
    Journal(store.storage, replace(store.header, layer_names=["0"])).begin([rows.keys])
    beside = small.create(store.path.with_name("view2.zarr"))
    Journal(beside.storage, beside.header).add(rows)
    assert own.clear_others() == 1
    assert own.clear_others() == 0
    assert_kept(own, small, rows)
    assert_kept(Journal(beside.storage, beside.header), small, rows)


@pytest.mark.parametrize("found", ['[["a"', "[1]", "[[1]]", '["a"]', '{"a": []}'])
def test_a_plan_that_cannot_be_read_is_none(store, found):
    """It says where blocks are cut, and no row depends on it."""
    kept = Journal(store.storage, store.header)
    kept.begin([["a"]])
    next(store.path.parent.rglob("plan.json")).write_text(found)
    assert kept.plan == []
    kept.begin([["a"], ["b"]])
    assert json.loads(next(store.path.parent.rglob("plan.json")).read_text()) == [["a"], ["b"]]


def test_rows_that_do_not_fit_are_refused(store, small):
    """As when a block is written: nothing that a block would not take waits for one."""
    rows = part(small, 0, 4)
    kept = Journal(store.storage, store.header)
    with pytest.raises(ValueError, match="not finite"):
        kept.add(replace(rows, pooled=np.full_like(rows.pooled, np.nan)))
    assert kept.keys == set()


def test_the_rows_of_a_store_behind_a_link_wait_beside_the_store_itself(tmp_path, small):
    """On the disk that has the room."""
    store = small.create(tmp_path / "large" / "view.zarr")
    (tmp_path / "features").mkdir()
    (tmp_path / "features/wavlm.zarr").symlink_to(store.path)
    linked = FeatureStore.open(tmp_path / "features/wavlm.zarr")
    assert Path(Journal(linked.storage, linked.header).place).parent == tmp_path / "large"
