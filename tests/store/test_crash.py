"""Whatever stops a writer, and wherever: what was committed stays, nothing else is there, and it goes on from there."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from strata.store import FeatureStore, StoreError
from strata.store.blocks import Rows
from strata.store.opening import storage_of
from strata.store.storage import Storage
from tests.sampling import SWEEP, sampled

NEVER = 10**9
"""No run has so many operations."""


class Failing(Storage):
    """Passes everything on to another storage, but the `at`-th operation fails: before it is done, or after."""

    def __init__(self, inner: Storage, at: int, after: bool):
        self.inner, self.left, self.after = inner, at, after
        self.place = inner.place

    def _pass_on(self, name, *arguments):
        self.left -= 1
        if self.left == 0 and not self.after:
            raise OSError("the disk is gone")
        result = getattr(self.inner, name)(*arguments)
        if self.left == 0:
            raise OSError("the disk is gone")
        return result

    @property
    def failed(self) -> bool:
        """Whether it has."""
        return self.left <= 0


for _name in Storage.__abstractmethods__:
    setattr(Failing, _name, lambda self, *a, _name=_name: self._pass_on(_name, *a))
Failing.__abstractmethods__ = frozenset()


def extraction(storage, small, parts):
    """What an extraction does: opens or creates the store, and appends what it lacks."""
    store = FeatureStore.open(storage) if FeatureStore.exists(storage) else small.create(storage)
    with store.locked():
        for keys, pooled, counts, frames in parts:
            wanted = [keys.index(key) for key in store.missing(keys)]
            store.append(
                [keys[i] for i in wanted], pooled[wanted], counts[wanted], {"1": [frames["1"][i] for i in wanted]}
            )
            yield keys


@SWEEP
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
def test_every_operation_may_fail_once(tmp_path, small, after, keep):
    """Of creating and filling a store, each read, write, flush and removal in turn; the next run completes it."""
    parts = [small.rows(11, seed=1), small.rows(14, seed=2)]
    counted = Failing(storage_of(tmp_path / "whole" / "view.zarr"), NEVER, after)
    list(extraction(counted, small, parts))
    operations = NEVER - counted.left
    assert operations > 50
    for at in sampled(range(1, operations + 1), keep):
        folder = tmp_path / str(at) / "view.zarr"
        failing, committed = Failing(storage_of(folder), at, after), []
        with contextlib.suppress(OSError):  # of the last ones, some are cleaning up, whose failure is nobody's trouble
            for keys in extraction(failing, small, parts):
                committed += keys
        assert failing.failed
        if FeatureStore.exists(folder):
            store = FeatureStore.open(folder)
            assert store.verify() == []
            assert set(committed) <= set(store.keys)
            for keys, pooled, *_ in parts:
                there = [i for i, key in enumerate(keys) if not store.missing([key])]
                np.testing.assert_array_equal(store.pooled([keys[i] for i in there]), pooled[there])
        else:
            assert committed == []
        list(extraction(storage_of(folder), small, parts))
        store = FeatureStore.open(folder)
        assert store.verify() == []
        small.assert_holds(store, *parts)
        assert {file.suffix for file in folder.rglob("*") if file.is_file()} <= {".json", ""}


@SWEEP
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
def test_every_operation_of_a_repair_may_fail_once(tmp_path, small, old_store, after, keep):
    """Of upgrading a store and taking a damaged block out of it: no sound row is lost, none is there twice."""
    store = FeatureStore.open(old_store)
    keys, pooled = store.keys, store.pooled()
    shard = old_store / "pooled/c/0/0/0"
    data = bytearray(shard.read_bytes())
    data[5] ^= 1
    shard.write_bytes(data)

    def repair(folder, at):
        shutil.copytree(old_store, folder)
        failing = Failing(storage_of(folder), NEVER, after)
        store = FeatureStore.open(failing)
        failing.left = at
        with contextlib.suppress(OSError), store.locked():
            store.retire(store.damage())
        return failing

    operations = NEVER - repair(tmp_path / "whole" / "view.zarr", NEVER).left
    assert operations > 30
    for at in sampled(range(1, operations + 1), keep):
        folder = tmp_path / str(at) / "view.zarr"
        assert repair(folder, at).failed
        store = FeatureStore.open(folder)
        assert not any("the file is gone" in line for line in store.verify())
        with store.locked():
            store.retire(store.damage())
        store = FeatureStore.open(folder)
        assert store.verify() == []
        assert sorted(store.keys) == sorted(keys[5:])  # the damaged chunk is a whole block here
        np.testing.assert_array_equal(store.pooled(keys[5:]), pooled[5:])
        np.testing.assert_array_equal(store.dask().compute(scheduler="synchronous"), store.pooled())


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_random_instants_a_writer_loses_nothing(tmp_path, small, kills):
    """SIGKILL while blocks are written: the store opens and verifies, committed rows stay, and the rest is appended."""
    place, parts = tmp_path / "view.zarr", [small.rows(33, seed=seed) for seed in range(40)]
    instants, committed = random.Random(0), set()
    for _ in range(kills):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads: the child starts none
            child = os.fork()
        if child == 0:
            list(extraction(place, small, parts))
            os._exit(0)
        time.sleep(instants.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if FeatureStore.exists(place):
            store = FeatureStore.open(place)
            assert store.verify() == []
            assert committed <= set(store.keys)
            committed = set(store.keys)
    list(extraction(place, small, parts))
    small.assert_holds(FeatureStore.open(place), *parts)


LIMITED = """
import resource, sys
import numpy as np
from strata.store import FeatureStore
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))
store = FeatureStore.open(sys.argv[1])
store.append(["small"], np.ones((1, 3, 5000), np.float32), [1])
try:
    store.append([f"big{i}" for i in range(128)], np.ones((128, 3, 5000), np.float32), [1] * 128)
except ValueError as error:
    sys.exit(str(error))
"""


def test_no_room_is_one_clear_line_and_loses_nothing(tmp_path, small):
    """A limit on file sizes stands for the full disk here; the same append succeeds once there is room."""
    store = small.create(tmp_path / "view.zarr", dim=5000, frame_layers=(), block_rows=128)
    done = subprocess.run([sys.executable, "-c", LIMITED, store.path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "file too large at pooled/c/1/0/0; what was committed stays: make room" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    store = FeatureStore.open(store.path)
    assert store.verify() == []
    assert store.keys == ["small"]
    store.append([f"big{i}" for i in range(128)], np.ones((128, 3, 5000), np.float32), [1] * 128)
    assert len(store) == 129
    assert not list(store.path.rglob("*.partial"))


def test_values_are_safe_before_their_key_is_written(store, small, monkeypatch):
    """After a power cut no key may outlive its values."""
    log = []
    for name in ("write", "flush"):
        inner = getattr(store.storage, name)
        monkeypatch.setattr(
            store.storage, name, lambda *a, name=name, inner=inner: (log.append((name, *a[:1])), inner(*a))
        )
    store.append(*small.rows(4))
    files = [entry[-1] for entry in log]
    key = files.index("key/c/0/0")
    assert files[key - 1] == "flush"
    assert files[key + 1] == "flush"
    for name in ("pooled/c/0/0/0", "num_frames/c/0", "frames/1/000000/c/0/0", "frames/1/000000/zarr.json"):
        assert files.index(name) < key - 1


# -- several writers -----------------------------------------------------------------------------------------------


def a_block(store, small, seed, block=None):
    """What a writer without the lock does, and what it hands to `commit`; None if somebody else was first."""
    rows = Rows(*small.rows(9, seed=seed))
    block = store.reserve() if block is None else block
    writer = FeatureStore.open(store.path)
    claim = writer.claim(block)
    if claim is None:
        return None
    writer.write_block(block, rows, claim)
    return block, rows.keys, rows.num_frames, claim


def test_several_writers_fill_blocks_of_their_own(store, small):
    """In any order; a row is there when the holder of the lock has committed its block, and not before."""
    with store.locked():
        first, second = (a_block(store, small, seed) for seed in (1, 2))
        assert store.keys == []
        store.commit(*second)
        assert FeatureStore.open(store.path).keys == second[1]
        store.commit(*first)
        assert store.keys == first[1] + second[1]
        np.testing.assert_array_equal(store.dask().compute(scheduler="synchronous"), store.pooled())
    assert FeatureStore.open(store.path).keys == first[1] + second[1]
    small.assert_holds(FeatureStore.open(store.path), small.rows(9, seed=1), small.rows(9, seed=2))


def test_a_block_has_one_writer(store, small):
    """The second one to come is turned away."""
    with store.locked():
        written = a_block(store, small, 1)
        assert a_block(store, small, 2, written[0]) is None
        store.commit(*written)
    small.assert_holds(FeatureStore.open(store.path), small.rows(9, seed=1))


def test_a_misaligned_write_is_refused(store, small):
    """More rows than a block has, a block not claimed or not reserved, files that are not there in full."""
    with store.locked():
        block = store.reserve()
        with pytest.raises(StoreError, match="12 rows do not fit a block of 11"):
            store.write_block(block, Rows(*small.rows(12)), "mine")
        with pytest.raises(StoreError, match="block 0 was not claimed by this writer"):
            store.write_block(block, Rows(*small.rows(9)), "mine")
        with pytest.raises(StoreError, match="block 7 was not reserved"):
            store.commit(7, ["a"], [1], "mine")
        block, *written = a_block(store, small, 1)
        with pytest.raises(StoreError, match=f"block {block} was not claimed by this writer"):
            store.commit(block, *written[:2], "another's")
        (store.path / f"pooled/c/{block}/0/0").unlink()
        with pytest.raises(StoreError, match="every worker must see the store under the same path"):
            store.commit(block, *written)
        block, keys, counts, claim = a_block(store, small, 2)
        store.commit(block, keys, counts, claim)
        with pytest.raises(StoreError, match=f"block {block} was not claimed by this writer, or is committed"):
            store.write_block(block, Rows(*small.rows(9, seed=3)), claim)
    with pytest.raises(StoreError, match="needs the lock"):
        store.reserve()
    assert FeatureStore.open(store.path).keys == keys


def test_a_writer_of_a_dropped_store_cannot_write_into_its_successor(store, small):
    """Whose block numbers begin anew: a claim is known by its token."""
    with store.locked():
        block = store.reserve()
        zombie = FeatureStore.open(store.path)
        claim = zombie.claim(block)
    shutil.rmtree(store.path)
    successor = small.create(store.path, fingerprint={"family": "another"})
    with successor.locked():
        written = a_block(successor, small, 2)
        assert written[0] == block
        with pytest.raises(StoreError, match="was not claimed by this writer"):
            zombie.write_block(block, Rows(*small.rows(9, seed=1)), claim)
        successor.commit(*written)
    small.assert_holds(FeatureStore.open(store.path), small.rows(9, seed=2))


def test_a_store_that_was_replaced_is_not_written_to(store, small):
    """By whoever opened the one before: it would pass its header off as the other's."""
    shutil.rmtree(store.path)
    small.create(store.path, fingerprint={"family": "another"}).append(*small.rows(3))
    with pytest.raises(StoreError, match="was replaced by another store since it was opened"):
        store.append(*small.rows(2, seed=2))
    assert FeatureStore.open(store.path).header.fingerprint == {"family": "another"}


def test_what_a_dead_writer_left_is_swept_and_its_number_never_given_again(store, small):
    """So that a writer who only seemed dead meets nobody."""
    with store.locked():
        lost, *_ = a_block(store, small, 1)
    assert (store.path / f"pooled/c/{lost}/0/0").exists()
    with store.locked():
        assert not (store.path / f"pooled/c/{lost}").exists()
        assert not list(store.path.glob("*.lock"))
        assert store.reserve() == lost + 1
    assert store.verify() == []
