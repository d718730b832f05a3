"""The file that HDF5 writes to, and what it says of a disk that is full. Knows no store and no HDF5."""

import io
from collections.abc import Iterator
from contextlib import contextmanager


class Disk(io.FileIO):
    """The file that HDF5 writes to; it keeps a failure to itself until asked.

    HDF5 cannot close a file whose last blocks it cannot write: it ends the whole process by a segmentation fault. So a
    full disk must look like a patient one until the file is closed.
    """

    failure: OSError | None = None

    def write(self, data) -> int:
        """As if all of it had been written."""
        rest = memoryview(data).cast("B")
        while len(rest) and self.failure is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.failure = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """As if it had been done."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def check(self) -> None:
        """Raises the failure that there was."""
        if self.failure is not None:
            raise self.failure

    @contextmanager
    def failing_first(self) -> Iterator[None]:
        """Raises it in the place of whatever followed from it: HDF5 may miss what it believes to have written."""
        try:
            yield
        finally:
            self.check()
