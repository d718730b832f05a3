"""What a store asks of the disk or bucket that it lies on: files by name, each written whole or not at all.

Everything that a store reads or writes passes through this contract, so that its promises (which file comes before
which, what survives a crash) hold on every implementation, and a test can let any single operation fail. It knows no
arrays and no layout. `local` is a folder, `objects` a bucket.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

PARTIAL = ".partial"
"""Ends the name of a file that is being put in place; a killed writer may leave one."""


class Storage(ABC):
    """The files of one store; names are relative, with `/` between their parts.

    Every method raises FileNotFoundError where a file that it needs is not there, and OSError where the disk or the
    service fails.
    """

    place: str
    """Where it lies, as the user gave it; for messages."""

    @abstractmethod
    def names(self, below: str = "") -> list[str]:
        """Names of all files below a folder, sorted; none where there is no such folder."""

    @abstractmethod
    def read(self, name: str, spans: Sequence[tuple[int, int]]) -> Iterator[memoryview]:
        """The bytes of each (start, length); fewer where the file ends before. A negative start counts from the end.

        A yielded buffer is read-only and holds until the next one is asked for.
        """

    @abstractmethod
    def read_all(self, name: str) -> bytes:
        """A whole file."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Length of a file in bytes."""

    @abstractmethod
    def signature(self, name: str) -> str:
        """Changes whenever somebody writes the file, without reading it."""

    @abstractmethod
    def write(self, name: str, data: Sequence[bytes]) -> None:
        """Puts a file in place, over one of the same name: readers see the old one or the new one, never a part.

        Raises:
            NoRoom: the disk, the quota or the limit on a file's size does not allow it; nothing is left behind.
        """

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Puts a small file in place; False, and nothing done, if there is one. Of several callers one gets True."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Removes a file; one that is not there is no error."""

    @abstractmethod
    def discard(self) -> None:
        """Removes all files, and the folder that they lie in; none there are no error."""

    @abstractmethod
    def flush(self) -> None:
        """Returns when everything written so far survives a power cut."""

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[None]:
        """Holds the right to write for the length of a block; it ends with the process that holds it.

        Raises:
            StoreLocked: another process holds it; the message says which.
        """
