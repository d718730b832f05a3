"""An extraction that is killed, finds the disk full or its files damaged, loses nothing and goes on."""

import os
import random
import shutil
import subprocess
from itertools import product

import numpy as np
import pytest

from strata.pipeline.stages import extract
from strata.store import FeatureStore
from strata.store.local import LocalStorage
from tests.pipeline import forks
from tests.pipeline.stages.stores import assert_same, opened, values
from tests.sampling import SWEEP, sampled, sweep


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_random_instants_an_extraction_loses_nothing(framed, kills, forked):
    """SIGKILL, again and again, over two views with frames: every store opens, verifies and keeps its committed rows;
    in the end it equals an uninterrupted run's, value for value."""
    views = ("mfcc", "wavlm")
    framed.succeeds("extract")
    quiet = framed.folder / "quiet"
    (framed.folder / "features").rename(quiet)
    instants, committed, killed, whole = random.Random(kills), {view: set() for view in views}, 0, 0
    while killed < kills:
        process = forked.Process(target=forks.run, args=(framed.folder, dict(os.environ), "extract"))
        process.start()
        process.join(instants.uniform(0.05, 2.0))
        killed += process.is_alive()
        process.kill()
        process.join()
        for view in views:
            if FeatureStore.exists(framed.folder / f"features/{view}.zarr"):
                store = opened(framed, view)
                assert store.verify() == []
                assert committed[view] <= set(store.keys)
                committed[view] = set(store.keys)
        if process.exitcode == 0:  # all is there: once more from the start
            whole += 1
            for view in views:
                assert_same(opened(framed, view), FeatureStore.open(quiet / f"{view}.zarr"))
            shutil.rmtree(framed.folder / "features")
            committed = {view: set() for view in views}
    framed.succeeds("extract")
    for view in views:
        assert_same(opened(framed, view), FeatureStore.open(quiet / f"{view}.zarr"))
        assert not list((framed.folder / f"features/{view}.zarr").rglob("*.partial"))


@SWEEP
@pytest.mark.parametrize("method", ["write", "create", "remove", "flush", "read_all", "names"])
def test_an_extraction_whose_storage_fails_once_completes_the_next_time(study, monkeypatch, method, keep):
    """At the first, second, … operation of a kind: one line, nothing lost, and the same values in the end."""
    study.params["views"] = {"mfcc": {"family": "mfcc", "frames": ["mfcc"]}}
    study.params["experiments"] = study.params["eliminate"] = {}
    study.write_params()
    study.succeeds("corpus")
    inner = getattr(LocalStorage, method)

    def extract_failing(at: int) -> tuple[int, int, str]:
        """How often the operation was called, of which the `at`-th fails; exit status and stderr."""
        calls = 0

        def failing(self, *arguments):
            nonlocal calls
            calls += 1
            if calls == at:
                raise OSError("the disk is gone")
            return inner(self, *arguments)

        with monkeypatch.context() as broken:
            broken.setattr(LocalStorage, method, failing)
            status, _, err = study.strata("extract")
        return calls, status, err

    operations, status, _ = extract_failing(0)
    assert status == 0
    assert operations > 0
    quiet = (study.folder / "features").rename(study.folder / "quiet")
    for at in sampled(range(1, operations + 1), keep and 3):
        _, status, err = extract_failing(at)
        assert status == 1
        assert err.splitlines()[-1].endswith("the disk is gone")
        study.succeeds("extract")
        assert opened(study, "mfcc").verify() == []
        assert_same(opened(study, "mfcc"), FeatureStore.open(quiet / "mfcc.zarr"))
        shutil.rmtree(study.folder / "features")


@pytest.fixture
def tiny_disk(study):
    """The study's features on a disk of one megabyte."""
    features = study.folder / "features"
    features.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", features]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk of one megabyte takes the right to mount a tmpfs")
    yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", features], check=True)
    subprocess.run(["umount", features], check=True)


def test_a_full_disk_is_one_line_and_the_run_completes_once_there_is_room(study, tiny_disk, monkeypatch):
    """Whether it is seen beforehand or, where somebody else fills it, in the middle of a block; the view that fits is
    done."""
    study.params["views"] = {
        "large": {"family": "mfcc", "frames": ["mfcc"]},  # a chunk of frames has a megabyte
        "small": {"family": "mfcc"},
    }
    study.params["experiments"] = study.params["eliminate"] = {}
    study.write_params()
    study.succeeds("corpus")
    assert "view large: 1.1 MB to write but only" in study.fails("extract")
    with monkeypatch.context() as unseen:
        unseen.setattr(extract, "_check_room", lambda *_: None)
        line = study.fails("extract")
    assert "view large: " in line
    assert "no space left on device at frames/mfcc/000000/c/0/0" in line
    assert "make room, and the same command goes on from there" in line
    assert opened(study, "large").verify() == []
    assert len(opened(study, "small")) == 24
    tiny_disk("20m")
    assert "large: 24 new of 24" in study.succeeds("extract")
    assert opened(study, "large").verify() == []


def test_a_disk_that_is_too_small_is_refused_before_anything_is_computed(study, monkeypatch):
    """With what is needed and what is there."""
    study.succeeds("corpus")
    usage = shutil.disk_usage(study.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    line = study.fails("extract", "mfcc")
    assert "90.4 kB to write but only 1.0 kB free" in line
    assert len(opened(study, "mfcc")) == 0


FILES = {
    "pooled/c/1/0/0": 64,
    "num_frames/c/1": 64,
    "frames/2/000001/c/0/0": 64,
    "frames/2/000001/zarr.json": 0,
    "key/c/1/0": 64,
    "pooled/zarr.json": 0,
    "zarr.json": 0,
}
"""A file of every kind, and how many rows are lost with it."""


@pytest.fixture(scope="module")
def whole(new_study, silence, tmp_path_factory):
    """A study whose view keeps frames, extracted in several blocks. To be copied, its miniature with it."""
    root = tmp_path_factory.mktemp("whole")
    study = new_study(root / "study", silence).add(200)
    study.params["views"]["wavlm"]["frames"] = [2]
    study.write_params()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(root / "miniatures"))
        study.succeeds("corpus")
        study.succeeds("extract", "wavlm")
    return study


@pytest.mark.parametrize(("file", "how"), sweep(product(FILES, ("flip", "delete", "truncate")), keep=7))
def test_damage_is_named_and_just_those_rows_are_computed_anew(whole, file, how, tmp_path, capsys, monkeypatch):
    """`strata store verify` says view, block and rows; `strata extract` mends, and the values are what they were."""
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "miniatures"))
    study, rows = whole.copied(tmp_path, capsys), FILES[file]
    path = study.folder / "features/wavlm.zarr"
    before = values(opened(study, "wavlm"))
    data = bytearray((path / file).read_bytes())
    data[len(data) // 3] ^= 4
    (path / file).unlink()
    if how != "delete":
        (path / file).write_bytes(data if how == "flip" else data[: len(data) // 2])
    status, _, said = study.strata("store", "verify", str(path))
    assert status == 1
    where = f"all blocks: {file} is not what was" if file in ("pooled/zarr.json", "zarr.json") else "block 1, rows"
    assert f"view wavlm, {where}" in said
    said = study.succeeds("extract", "wavlm")
    assert (f"wavlm: {rows} new of 200 utterances" if rows else "up to date") in said
    assert "200 rows, all of them as they were written" in study.succeeds("store", "verify", str(path))
    after = values(opened(study, "wavlm"))
    assert after.keys() == before.keys()
    for key, arrays in before.items():
        np.testing.assert_allclose(after[key][0], arrays[0], rtol=1e-4, atol=1e-5)


def test_silent_rot_is_found_by_verify_and_mended_by_the_next_extraction(study):
    """The disk flips a bit and no time of change tells: only reading does, and what verify found is not forgotten."""
    study.succeeds("corpus")
    study.succeeds("extract", "mfcc")
    shard = study.folder / "features/mfcc.zarr/pooled/c/0/0/0"
    times = shard.stat()
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "up to date" in study.succeeds("extract", "mfcc")  # it reads nothing that has not changed
    assert "strata store verify" in study.fails("train", "one")
    assert "damaged in 1 place;" in study.fails("store", "verify", str(study.folder / "features/mfcc.zarr"))
    assert "24 damaged rows were taken out" in study.succeeds("extract", "mfcc")
    assert "one (SVMT)" in study.succeeds("train", "one")
