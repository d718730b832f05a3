"""Values on a disk: one file for all who read it, there for as long as somebody does."""

import errno
import fcntl
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest

from strata.trainers.inputs import mapped
from strata.trainers.inputs.mapped import MappedFiles, NoRoom
from strata.trainers.inputs.pooled import Pooled, as_pooled
from strata.trainers.inputs.standardise import moments

VALUES = np.random.default_rng(0).normal(size=(53, 5, 7)).astype(np.float32)  # primes: swapped axes cannot pass


def in_parts(values=VALUES):
    """What fills a file: out of order, as a store has its rows."""
    order = np.random.default_rng(1).permutation(len(values))
    return lambda: ((part, values[part]) for part in np.array_split(order, 4))


def held(folder, name="a"):
    """Files of a folder, and one of them with `VALUES`."""
    files = MappedFiles(folder)
    return files, files.hold(name, VALUES.shape, in_parts())


def left(folder) -> list[str]:
    """Names of the files that are there but for the lock of the folder itself."""
    return sorted(path.name for path in folder.iterdir() if path.name != "making.lock")


def test_what_is_read_is_what_was_given(tmp_path):
    """Rows in any order and more than once, layers in any order, and views of views."""
    files, values = held(tmp_path / "values")
    rows = np.array([3, 52, 3, 0])
    view = Pooled(values, np.arange(53)[::-1].copy())
    np.testing.assert_array_equal(view.take(rows)[0], VALUES[::-1][rows])
    np.testing.assert_array_equal(view.select([4, 1]).take(rows)[0], VALUES[::-1][rows][:, [4, 1]])
    np.testing.assert_array_equal(view.select([4, 1, 2]).select([2, 0]).take(rows)[0], VALUES[::-1][rows][:, [2, 4]])
    assert view.select([4, 1]).shape == (53, 2, 7)
    assert view.select([4, 1]).nbytes == 53 * 2 * 7 * 4
    taken = view.take(rows)[0]
    taken += 1  # the caller's own
    np.testing.assert_array_equal(view.take(rows)[0], VALUES[::-1][rows])
    files.close()


def test_pickled_it_is_a_path(tmp_path):
    """A job that goes to another process carries no values."""
    files, values = held(tmp_path / "values")
    pickled = pickle.dumps(values)
    assert len(pickled) < 500
    np.testing.assert_array_equal(pickle.loads(pickled).read(np.arange(53)), VALUES)
    files.close()


def test_the_last_one_to_leave_removes_the_file(tmp_path):
    """Two commands at one time share a file; what was kept beside it goes with it."""
    files, values = held(tmp_path / "values")
    moments(Pooled(values, np.arange(53)), np.arange(9))
    other = MappedFiles(tmp_path / "values")

    def not_again():
        raise AssertionError("written twice")

    same = other.hold("a", VALUES.shape, not_again)
    files.close()
    np.testing.assert_array_equal(same.read(np.arange(53)), VALUES)
    assert len(left(tmp_path / "values")) == 3
    other.close()
    assert not (tmp_path / "values").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from strata.trainers.inputs.mapped import MappedFiles

def parts():
    yield np.arange(20), np.zeros((20, 5, 7), np.float32)
    if {midway}:
        os.kill(os.getpid(), signal.SIGKILL)
    yield np.arange(20, 53), np.zeros((33, 5, 7), np.float32)

MappedFiles(Path(sys.argv[1])).hold("killed", (53, 5, 7), parts)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("midway", [True, False])
def test_after_a_kill_the_next_one_cleans_up(tmp_path, midway):
    """Whether it was killed while it wrote or while it read."""
    command = [sys.executable, "-c", KILLED.format(midway=midway), str(tmp_path / "values")]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert left(tmp_path / "values") == (["killed.tmp"] if midway else ["killed.values"])
    files, _ = held(tmp_path / "values")
    assert left(tmp_path / "values") == ["a.values"]
    files.close()


def test_a_disk_without_room_is_told_beforehand(tmp_path, monkeypatch):
    """Nothing is written, and nothing is left."""
    monkeypatch.setattr(mapped, "SPARE_BYTES", 2**62)
    with pytest.raises(NoRoom, match="needs 0\\.0 GB and its disk has"):
        held(tmp_path / "values")
    assert left(tmp_path / "values") == []


def test_a_failure_to_fill_leaves_nothing(tmp_path):
    """A store that cannot be read is its reader's error."""

    def broken():
        yield np.arange(3), VALUES[:3]
        raise ValueError("a checksum")

    with pytest.raises(ValueError, match="a checksum"):
        MappedFiles(tmp_path / "values").hold("a", VALUES.shape, broken)
    assert left(tmp_path / "values") == []


def test_moments_are_computed_once(tmp_path, monkeypatch):
    """For all processes that ask for those of the same rows, of whichever layers, and for no other rows."""
    files, values = held(tmp_path / "values")
    rows = np.arange(0, 53, 2)
    view = Pooled(values, np.arange(53))
    first = moments(view.select([3, 1]), rows)
    again = pickle.loads(pickle.dumps(view))
    monkeypatch.setattr(type(values), "read", lambda *_: pytest.fail("read again"))
    np.testing.assert_array_equal(moments(again, rows)[:, [3, 1]], first)
    monkeypatch.undo()
    assert not np.array_equal(moments(view, rows[1:]), moments(view, rows))
    files.close()


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_are_those_of_float64(offset, tmp_path, monkeypatch):
    """In one pass, however far from zero the values lie, however they are sorted and in how many parts they come."""
    monkeypatch.setattr("strata.trainers.inputs.standardise.PART_BYTES", 4 * 5 * 7 * 10)
    values = (np.sort(VALUES, axis=0) + np.float32(offset)).astype(np.float32)
    values[:, 2, 3] = 16.66667
    rows = np.arange(1, 53)
    mean, sd = moments(as_pooled(values), rows)
    np.testing.assert_allclose(mean, values[rows].mean(0, dtype=np.float64), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(sd, values[rows].std(0, dtype=np.float64), rtol=1e-9, atol=1e-14)
    assert sd[2, 3] < 1e-13


def test_values_beyond_memory_are_read_in_runs(tmp_path, monkeypatch):
    """Half of the memory is the bound, and a run is worth a disk's seek."""
    files, values = held(tmp_path / "values")
    assert values.run == 1
    values.expect(np.arange(53))
    monkeypatch.setattr(mapped, "memory_bytes", lambda: 2 * VALUES.nbytes - 1)
    files.hold("b", VALUES.shape, in_parts())
    monkeypatch.undo()  # another machine has another memory
    other, told = pickle.loads(pickle.dumps(files.hold("b", VALUES.shape, in_parts()))), []
    assert other.run == mapped.RUN_BYTES // (4 * 5 * 7)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, size, what: told.append((start // 140, size // 140)))
    other.expect(np.array([7, 3, 52, 4, 3, 8, 9]))
    assert told == [(3, 2), (7, 3), (52, 1)]
    other.close()
    files.close()


def test_an_array_that_is_pickled_is_a_file_for_all(tmp_path, monkeypatch):
    """Of the Python API's users: no copy for each model; small arrays are copied; nothing is left of either."""
    monkeypatch.setattr(mapped.tempfile, "gettempdir", lambda: str(tmp_path))
    large = np.random.default_rng(2).normal(size=(301, 29, 31)).astype(np.float32)
    view = as_pooled(large)
    first, again = pickle.dumps(view.values), pickle.dumps(view.values)
    assert first == again
    assert len(first) < 500
    (folder,) = tmp_path.iterdir()
    assert len(left(folder)) == 1
    read = pickle.loads(first)
    np.testing.assert_array_equal(read.read(np.arange(301)), large)
    read.close()
    del view
    assert not folder.exists()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(as_pooled(VALUES))).take(np.arange(53))[0], VALUES)
    assert not folder.exists()


def test_a_folder_of_somebody_else_is_not_written_to(tmp_path, monkeypatch):
    """The array is copied then."""
    monkeypatch.setattr(mapped.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / f"strata-{os.getuid()}").symlink_to(tmp_path)
    large = np.zeros((301, 29, 31), np.float32)
    assert len(pickle.dumps(as_pooled(large))) > large.nbytes


def test_an_error_of_the_disk_is_no_lack_of_room(tmp_path):
    """A store that cannot be read is not asked again and again."""

    def broken():
        yield np.arange(3), VALUES[:3]
        raise OSError(errno.EIO, "a broken disk")

    with pytest.raises(OSError, match="a broken disk") as error:
        MappedFiles(tmp_path / "values").hold("a", VALUES.shape, broken)
    assert not isinstance(error.value, NoRoom)


def test_files_are_opened_as_nfs_wants_them_locked(tmp_path, monkeypatch):
    """Exclusively only where they are open for writing: a file system that insists on it serves as any other."""
    real = fcntl.flock

    def flock(file, how):
        descriptor = file if isinstance(file, int) else file.fileno()
        writable = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        if how & fcntl.LOCK_EX and not writable:
            raise OSError(errno.EBADF, "Bad file descriptor")
        return real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    files, _ = held(tmp_path / "values")
    files.hold("b", VALUES.shape, in_parts())
    files.close()
    assert not (tmp_path / "values").exists()
