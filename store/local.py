"""A store in a folder of this machine, or of a disk that several machines share."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from strata.store.errors import naming_full_disks
from strata.store.lock import exclusive
from strata.store.storage import PARTIAL, Storage


class LocalStorage(Storage):
    """Files are written beside their place, forced to the disk, and renamed into it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.place = str(folder)
        self._changed_folders: set[Path] = set()

    def names(self, below: str = "") -> list[str]:
        """See `Storage.names`."""
        found = []
        for folder, _, files in os.walk(self.folder / below):
            prefix = os.path.relpath(folder, self.folder).replace(os.sep, "/")
            found += files if prefix == "." else [f"{prefix}/{file}" for file in files]
        return sorted(found)

    def read(self, name: str, spans: Sequence[tuple[int, int]]) -> Iterator[memoryview]:
        """See `Storage.read`."""
        with open(self.folder / name, "rb", buffering=0) as file:
            end = os.fstat(file.fileno()).st_size
            # One buffer for all spans: fresh memory costs more than the copy from the page cache.
            buffer = memoryview(bytearray(max((length for _, length in spans), default=0)))
            for start, length in spans:
                start = start if start >= 0 else max(0, end + start)
                found = os.preadv(file.fileno(), [buffer[:length]], start)
                yield buffer[:found].toreadonly()

    def read_all(self, name: str) -> bytes:
        """See `Storage.read_all`."""
        return (self.folder / name).read_bytes()

    def size(self, name: str) -> int:
        """See `Storage.size`."""
        return (self.folder / name).stat().st_size

    def signature(self, name: str) -> str:
        """See `Storage.signature`."""
        status = (self.folder / name).stat()
        return f"{status.st_size},{status.st_mtime_ns}"

    def write(self, name: str, data: Sequence[bytes]) -> None:
        """See `Storage.write`."""
        path = self.folder / name
        partial = path.with_name(path.name + PARTIAL)
        with naming_full_disks(self.folder, name):
            self._make_folder(path.parent)
            try:
                with open(partial, "wb") as file:
                    file.writelines(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
            except OSError:
                partial.unlink(missing_ok=True)
                raise

    def create(self, name: str, data: bytes) -> bool:
        """See `Storage.create`."""
        path = self.folder / name
        with naming_full_disks(self.folder, name):
            self._make_folder(path.parent)
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                return False
            with open(descriptor, "wb") as file:
                file.write(data)
        return True

    def remove(self, name: str) -> None:
        """See `Storage.remove`. Folders that it leaves empty go too."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == self.folder:
                break
            try:
                parent.rmdir()
            except OSError:  # not empty, or not there
                break
        self._changed_folders.add(parent)

    def discard(self) -> None:
        """See `Storage.discard`."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.folder)
        self._changed_folders.clear()

    def flush(self) -> None:
        """See `Storage.flush`: the files are on the disk already, here follow the folders that name them."""
        for folder in self._changed_folders:
            if folder.is_dir():
                sync_folder(folder)
        self._changed_folders.clear()

    def exclusive(self) -> AbstractContextManager[None]:
        """See `Storage.exclusive`."""
        return exclusive(self.folder)

    def _make_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # All the way up, for another process may have made a folder and not yet forced its name to the disk.
        own = [path for path in (folder, *folder.parents) if path.is_relative_to(self.folder)]
        self._changed_folders.update(own, [self.folder.parent])


def sync_folder(folder: Path) -> None:
    """Makes what was renamed into a folder, or removed from it, survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
