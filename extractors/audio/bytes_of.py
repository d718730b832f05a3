"""A file's bytes: to be looked at in place, and to be read with a few of them replaced.

Knows no format. `Bytes` is what the headers are looked up in; `Mended` is the file object that a decoder reads.
"""

import io
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

Bytes: TypeAlias = mmap.mmap
"""A file mapped into memory: slices, `find` and `rfind`, without reading it as a whole."""
Patches: TypeAlias = Mapping[int, bytes]
"""Bytes by the place where they are to stand."""

_BEYOND = 1 << 40
_TAG_BYTES = 128  # of an ID3v1 tag, which decoders of MP3 look for at the end of a file


def behind_tags(data: Bytes, at: int) -> int:
    """Where an ID3 tag, or one after the other, ends; the same place where there is none."""
    while data[at : at + 3] == b"ID3":
        at += 10 + sum((byte & 0x7F) << 7 * (3 - place) for place, byte in enumerate(data[at + 6 : at + 10]))
    return at


class Mended(io.RawIOBase):
    """A file, read as if other bytes stood at some places, and as if it were endless where that is asked for."""

    def __init__(self, path: str | Path | bytes, patches: Patches, end: int | None = None, before: bytes = b""):
        """Opens the file.

        Args:
            path: of the file.
            patches: what is to be read at which place.
            end: where the file ends, of which the decoder is not told: it is made to believe in a terabyte more, so
                that no length which it estimates from the size cuts anything off. None: the file is as long as it is.
            before: what is read before the file's first byte.
        """
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self._patches, self._before = patches, before
        self._end = len(before) + (os.fstat(self._file.fileno()).st_size if end is None else end)
        self._told = self._end + (_BEYOND if end is not None else 0)
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See `io.IOBase`."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._told}[whence])
        return self._at

    def tell(self) -> int:
        """See `io.IOBase`."""
        return self._at

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def readinto(self, buffer) -> int:
        """See `io.RawIOBase`. Where a tag could stand at the pretended end, there are zeros."""
        view = memoryview(buffer).cast("B")
        if self._at >= self._end:
            count = min(len(view), _TAG_BYTES) if self._at >= max(self._told - _TAG_BYTES, self._end + 1) else 0
            view[:count] = bytes(count)
            self._at += count
            return count
        if self._at < len(self._before):
            part = self._before[self._at :][: len(view)]
            view[: len(part)] = part
            self._at += len(part)
            return len(part) + (self.readinto(view[len(part) :]) if len(view) > len(part) else 0)
        at, view = self._at - len(self._before), view[: self._end - self._at]
        self._file.seek(at)
        count = self._file.readinto(view)
        for place, right in self._patches.items():
            for index, value in enumerate(right, place - at):
                if 0 <= index < count:
                    view[index] = value
        self._at += count
        return count

    def close(self) -> None:
        """See `io.IOBase`."""
        self._file.close()
        super().close()
