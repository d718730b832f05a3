"""Narrowing: some of the layers, all of the rows, and the wide store out of the way but not gone."""

import os
import random
import shutil
import signal
import time
import warnings
from collections import namedtuple

import numpy as np
import pytest

from strata.store import CorruptStore, FeatureStore, FingerprintMismatch, StoreError, StoreLocked, narrow
from strata.store.lock import exclusive

BEFORE = {"family": "test", "layers": ["0", "1", "2"], "frames": ["1"]}
AFTER = {"family": "test", "layers": ["2", "1"], "frames": ["1"]}
KEPT = ("2", "1")  # neither the first layers nor in their order


@pytest.fixture
def places(tmp_path, small):
    """Where a store of 37 rows lies (three blocks and a part of one), where it is to go, and its rows."""
    path = tmp_path / "features" / "view.zarr"
    rows = small.rows(37)
    small.create(path, fingerprint=BEFORE, frame_rate_hz=50.0).append(*rows)
    return path, tmp_path / "wide" / "view.zarr", rows


def narrowed(path, wide, **changes):
    return narrow.narrow(
        path, wide, **{"before": BEFORE, "after": AFTER, "layers": KEPT, "frame_layers": ("1",)} | changes
    )


def assert_narrow(path, rows) -> None:
    """All of the rows, the kept layers of them alone, bit for bit; and nothing lies about."""
    keys, pooled, counts, frames = rows
    store = FeatureStore.open(path)
    assert store.verify() == []
    assert store.keys == keys
    assert store.layer_names == KEPT
    assert store.holds(AFTER)
    assert store.header.frame_rate_hz == 50.0
    assert store.pooled().tobytes() == pooled[:, [2, 1]].tobytes()
    np.testing.assert_array_equal(store.num_frames(), counts)
    assert [f.tobytes() for f in store.frames(keys, "1")] == [f.tobytes() for f in frames["1"]]
    assert {file.name for file in path.parent.iterdir()} == {"view.zarr", "view.lock"}


def test_the_rows_of_the_kept_layers_are_the_same_and_the_wide_store_is_kept(places, small):
    """Bit for bit, in the order of the rows; the wide store is whole at its other place."""
    path, wide, rows = places
    assert narrowed(path, wide).path == path
    assert_narrow(path, rows)
    kept = FeatureStore.open(wide)
    assert kept.verify() == []
    assert kept.holds(BEFORE)
    small.assert_holds(kept, rows)


def test_notes_go_along(places):
    """How rows came about is true of their copies."""
    path, wide, _ = places
    with FeatureStore.open(path).locked() as store:
        store.note("by", ["a"])
    assert narrowed(path, wide).notes == {"by": ["a"]}


def test_frames_go_where_they_are_not_asked_for(places):
    """Pooled layers alone."""
    path, wide, rows = places
    store = narrowed(path, wide, frame_layers=(), after=AFTER | {"frames": []})
    assert store.header.frame_layers == []
    assert store.pooled(layers=["1"]).tobytes() == rows[1][:, [1]].tobytes()
    assert not (path / "frames").exists()


def test_a_second_call_does_nothing(places):
    """Also when the wide store has been removed, as it may be."""
    path, wide, rows = places
    narrowed(path, wide)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    shutil.rmtree(wide)
    narrowed(path, wide)
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before
    assert not wide.exists()
    assert_narrow(path, rows)


def test_rows_are_appended_afterwards(places, small):
    """It is a store like any other."""
    path, wide, rows = places
    narrowed(path, wide)
    keys, pooled, counts, frames = small.rows(5, seed=1)
    FeatureStore.open(path).append(keys, pooled[:, [2, 1]], counts, frames)
    store = FeatureStore.open(path)
    assert store.keys == rows[0] + keys
    np.testing.assert_array_equal(store.pooled(), np.concatenate([rows[1], pooled])[:, [2, 1]])


def test_it_holds_no_more_than_a_part_at_a_time(places, monkeypatch):
    """Every part makes a block of its own where parts are smaller than blocks; all of them are told."""
    path, wide, rows = places
    monkeypatch.setattr(narrow, "PART_BYTES", 4 * 2 * 7 * 3)  # three rows without frames
    told = []
    narrowed(path, wide, progress=lambda done, total: told.append((done, total)))
    assert_narrow(path, rows)
    assert len(told) >= 37 / 3
    assert told[-1] == (37, 37)
    assert len(FeatureStore.open(path).committed()) == len(told)


# -- cut short -----------------------------------------------------------------------------------------------------


def assert_nothing_lost(path, wide, rows, small) -> None:
    """The wide store is whole at one of its places, and the same call makes the narrow one."""
    (there,) = [place for place in (path, wide) if place.exists() and FeatureStore.open(place).holds(BEFORE)]
    small.assert_holds(FeatureStore.open(there), rows)
    narrowed(path, wide)
    assert_narrow(path, rows)
    small.assert_holds(FeatureStore.open(wide), rows)


@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
@pytest.mark.parametrize("move", [1, 2], ids=["the wide store's", "the copy's"])
def test_either_rename_may_fail(places, small, monkeypatch, move, after):
    """Before or after it is done: nothing is lost, and the next call ends well."""
    path, wide, rows = places
    moves, rename = [], os.rename

    def failing(*where):
        moves.append(where)
        if len(moves) == move and not after:
            raise OSError("the disk is gone")
        rename(*where)
        if len(moves) == move:
            raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(narrow.os, "rename", failing)
        with pytest.raises(OSError, match="the disk is gone"):
            narrowed(path, wide)
    assert_nothing_lost(path, wide, rows, small)


def test_a_copy_that_was_cut_short_is_gone_on_with(places, small, monkeypatch):
    """Rows that were copied are not copied again."""
    path, wide, rows = places
    monkeypatch.setattr(narrow, "PART_BYTES", 4 * 2 * 7 * 11)

    def stop(done, total):
        if done >= 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        narrowed(path, wide, progress=stop)
    small.assert_holds(FeatureStore.open(path), rows)
    done = len(FeatureStore.open(path.with_name("view.zarr.tmp")))
    assert 11 <= done < 37
    told = []
    narrowed(path, wide, progress=lambda *counts: told.append(counts))
    assert told[-1] == (37 - done, 37 - done)
    assert_narrow(path, rows)


def test_a_copy_of_other_layers_is_begun_anew(places):
    """It was somebody's change of mind."""
    path, wide, rows = places
    other = {"layers": ("0",), "frame_layers": (), "after": AFTER | {"layers": ["0"]}}
    with pytest.raises(ZeroDivisionError):
        narrowed(path, wide, **other, progress=lambda *_: 1 / 0)
    narrowed(path, wide)
    assert_narrow(path, rows)


def test_killed_at_random_instants_it_loses_nothing(places, tmp_path, small, monkeypatch):
    """SIGKILL, again and again, of a process that narrows a store in small parts; the last call completes it."""
    path, _, rows = places
    monkeypatch.setattr(narrow, "PART_BYTES", 600)
    instants, copying, moved, whole_s = random.Random(0), 0, 0, 0.0
    for number in range(12):
        root = tmp_path / str(number)
        shutil.copytree(path.parent, root / "features")
        here, there = root / "features" / path.name, root / "wide" / path.name
        if not whole_s:
            start = time.perf_counter()
            narrowed(here, there)
            whole_s = time.perf_counter() - start
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads: the child starts none
            child = os.fork()
        if child == 0:
            narrowed(here, there)
            os._exit(0)
        time.sleep(instants.uniform(0, 1.2 * whole_s))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        copying += here.with_name("view.zarr.tmp").exists()
        moved += there.exists()
        assert_nothing_lost(here, there, rows, small)
    assert copying + moved  # else the instants meet nothing


# -- refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"before": BEFORE | {"family": "other"}}, FingerprintMismatch, "family: stored 'test', wanted 'other'"),
        ({"layers": ("2", "7")}, StoreError, "no layer '7'; it has '0', '1', '2'"),
        ({"frame_layers": ("2",)}, StoreError, "no frames of layer '2' were kept .kept: 1."),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_moves(places, small, changes, error, message):
    """Another model's values, a layer or frames that are not there."""
    path, wide, rows = places
    with pytest.raises(error, match=message):
        narrowed(path, wide, **changes)
    small.assert_holds(FeatureStore.open(path), rows)
    assert not wide.exists()


def test_a_place_that_is_taken_is_refused(places, small):
    """An earlier wide store is not replaced."""
    path, wide, rows = places
    small.create(wide)
    with pytest.raises(StoreError, match="is there already, of an earlier narrowing"):
        narrowed(path, wide)
    small.assert_holds(FeatureStore.open(path), rows)


def test_no_store_no_narrowing(tmp_path):
    """Neither here nor there."""
    with pytest.raises(StoreError, match="no store at"):
        narrowed(tmp_path / "features" / "view.zarr", tmp_path / "wide" / "view.zarr")


def test_a_disk_that_is_too_small_is_seen_before_the_work(places, small, monkeypatch):
    """Nothing moves."""
    path, wide, rows = places
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9, 8, 1))
    with pytest.raises(StoreError, match=r"and its disk has .* GB free; make room"):
        narrowed(path, wide)
    small.assert_holds(FeatureStore.open(path), rows)


def test_two_disks_are_refused(places, small, tmp_path):
    """A rename cannot cross from one to the other; a link in the store's place cannot be moved for it either."""
    if os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("needs /dev/shm on another disk than the temporary folder")
    path, _, rows = places
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to("/dev/shm")
    with pytest.raises(StoreError, match="lie on different disks"):
        narrowed(path, elsewhere / f"{os.getpid()}-{path.name}")
    (elsewhere / f"{os.getpid()}-view.lock").unlink()
    path.rename(path.with_name("real.zarr"))
    path.symlink_to("real.zarr")
    with pytest.raises(StoreError, match="is a link, and a store is moved by renaming it"):
        narrowed(path, tmp_path / "wide" / "view.zarr")
    small.assert_holds(FeatureStore.open(path), rows)


@pytest.mark.parametrize("which", [0, 1], ids=["the store", "its new place"])
def test_another_writer_is_not_disturbed(places, small, which):
    """Both places are locked."""
    path, wide, rows = places
    with exclusive((path, wide)[which]), pytest.raises(StoreLocked, match="is being written by process"):
        narrowed(path, wide)
    small.assert_holds(FeatureStore.open(path), rows)


def test_damage_is_not_copied(places):
    """A flipped bit in a layer that stays stops the copy; the store stays where an extraction mends it."""
    path, wide, _ = places
    shard = path / "pooled/c/1/0/0"
    data = bytearray(shard.read_bytes())
    data[4 * 11 * 7 + 4 + 5] ^= 1  # behind layer 0 and its checksum
    shard.write_bytes(data)
    with pytest.raises(CorruptStore, match="rows 11 to 21: layer 1: checksum does not match"):
        narrowed(path, wide)
    assert FeatureStore.open(path).holds(BEFORE)
    assert not wide.exists()
