"""Values in files that every process maps for itself: one copy in memory, the operating system's, for all of them.

A folder holds the files of one machine. They are there for as long as somebody reads them: each process has a shared
lock on every file that it maps, and a file on which nobody has one, since its run has ended or was killed, is removed
by the next one that comes by. Knows arrays and files; what they are filled with is their maker's business.
"""

import errno
import fcntl
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from strata.trainers.inputs.values import rows_of

RUN_BYTES = 2**21
"""Neighbours that a disk reads together at little more than the cost of one."""
SUFFIX = ".values"
LOCK = "making.lock"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EOPNOTSUPP, errno.ENODEV)
"""A full disk, or one that maps no files."""
SPARE_BYTES = 2**30
"""Left free on the disk: results are still to be written."""


class NoRoom(OSError):
    """The disk has no room for a file of values."""


class Mapped:
    """float32 [rows, layers, dim] in a file, read-only; pickled it is a path."""

    def __init__(self, path: Path, shape: tuple[int, int, int], run: int = 1):
        self.path, self.shape, self.run = Path(path), tuple(shape), run

    @cached_property
    def _values(self) -> np.ndarray:
        descriptor = self._descriptor = os.open(self.path, os.O_RDONLY)  # it has the lock, until it is closed
        self._let_go = weakref.finalize(self, os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return np.frombuffer(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ), np.float32).reshape(self.shape)

    def read(self, rows: np.ndarray, layers: Sequence[int] | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """See `Values`."""
        return rows_of(self._values, rows, layers, out)

    def expect(self, rows: np.ndarray) -> None:
        """See `Values`: where the file is read from a disk, the disk is told."""
        if self.run == 1 or not hasattr(os, "posix_fadvise"):
            return
        _ = self._values
        row_bytes, ordered = 4 * self.shape[1] * self.shape[2], np.unique(rows)
        for part in np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1):
            place, size = int(part[0]) * row_bytes, len(part) * row_bytes
            os.posix_fadvise(self._descriptor, place, size, os.POSIX_FADV_WILLNEED)

    def kept(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """See `Values`: in a file beside this one; of several processes one computes it and the others wait."""
        path = self.path.with_name(f"{self.path.name}.{name}.npy")
        with open(path.with_suffix(".lock"), "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                return np.load(path)
            found = make()
            partial = path.with_suffix(".tmp")
            with open(partial, "wb") as file:
                np.save(file, found)
            os.replace(partial, path)
            return found

    def close(self) -> None:
        """Lets go of the file; what was read of it stays."""
        if self.__dict__.pop("_values", None) is not None:
            self._let_go()

    def __reduce__(self):
        return Mapped, (self.path, self.shape, self.run)


class MappedFiles:
    """The files of one folder that this process holds."""

    def __init__(self, folder: Path):
        self.folder = folder.absolute()  # whoever reads a file may be anywhere
        self._held: dict[str, Mapped] = {}

    def hold(
        self, name: str, shape: tuple[int, int, int], parts: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]
    ) -> Mapped:
        """A file of values that is there, or is made now; it stays until `close`.

        Args:
            name: of the file; the same only for the same values.
            shape: rows, layers, dim.
            parts: numbers of rows, in any order, and their values; all rows one after the other.

        Raises:
            NoRoom: the disk is too small; nothing is left there.
        """
        if name not in self._held:
            with self._alone() as folder:
                _sweep(folder)
                path = folder / f"{name}{SUFFIX}"
                if not path.exists():
                    _write(path, shape, parts)
                found = Mapped(path, shape, _run(shape))  # decided here, for machines with other memories too
                _ = found._values  # locked from now on
            self._held[name] = found
        return self._held[name]

    def close(self) -> None:
        """Lets go of all files, and removes those that nobody else holds, and the folder with the last of them."""
        while self._held:
            self._held.popitem()[1].close()
        if self.folder.is_dir():
            with self._alone() as folder:
                _sweep(folder)
                if [path.name for path in folder.iterdir()] == [LOCK]:
                    (folder / LOCK).unlink()
                    folder.rmdir()

    @contextmanager
    def _alone(self) -> Iterator[Path]:
        """Nobody else makes or removes a file meanwhile."""
        with ExitStack() as stack:
            while True:
                self.folder.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # it has just been removed
                    lock = stack.enter_context(open(self.folder / LOCK, "ab"))
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    if os.path.samestat(os.stat(self.folder / LOCK), os.fstat(lock.fileno())):
                        break
            yield self.folder


def memory_bytes() -> int:
    """The memory of this machine, or what of it this container may use."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # none, or `max`
        found = min(found, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return found


def _run(shape: tuple[int, int, int]) -> int:
    """One where the file fits into half of the memory, so that it is read from the disk once."""
    rows, row_bytes = shape[0], 4 * shape[1] * shape[2]
    return 1 if 2 * rows * row_bytes <= memory_bytes() else max(1, RUN_BYTES // row_bytes)


def own_temporary_folder() -> Path:
    """Where files of values lie that belong to no study; nobody else may read or write there.

    Raises:
        NoRoom: there is something else in its place.
    """
    folder = Path(tempfile.gettempdir()) / f"strata-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise NoRoom(f"{folder} is not a folder of this user alone")
    return folder


def _write(path: Path, shape: tuple[int, int, int], parts: Callable) -> None:
    needed = 4 * int(np.prod(shape))
    free = shutil.disk_usage(path.parent).free
    if free < needed + SPARE_BYTES:
        raise NoRoom(f"{path.parent} needs {needed / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB free")
    partial = path.with_suffix(".tmp")
    try:
        with open(partial, "wb+") as file:
            # Its room is had before it is mapped: a page that finds none later on would end the process.
            getattr(os, "posix_fallocate", _filled)(file.fileno(), 0, needed)
            values = np.memmap(file, np.float32, "r+", shape=shape)
            for rows, part in parts():
                values[rows] = part
            del values
        os.replace(partial, path)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise NoRoom(str(error)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def _filled(descriptor: int, start: int, size: int) -> None:
    """What `posix_fallocate` does, where there is none."""
    for place in range(start, start + size, RUN_BYTES):
        os.pwrite(descriptor, bytes(min(RUN_BYTES, start + size - place)), place)


def _sweep(folder: Path) -> None:
    """Removes what nobody holds, and what a process left that was killed while it wrote."""
    for path in folder.glob(f"*{SUFFIX}"):
        # For writing, although nothing is written: over NFS only that may be locked for oneself.
        with suppress(FileNotFoundError), open(path, "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            path.unlink()
    held = {path.name for path in folder.glob(f"*{SUFFIX}")}
    for path in folder.iterdir():
        of = path.name.partition(SUFFIX)[0] + SUFFIX
        if path.name != LOCK and of not in held and not path.name.startswith("."):  # NFS's own
            path.unlink(missing_ok=True)
