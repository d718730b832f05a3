"""The bytes of chunks and shards: written and read by hand, at the speed of the disk.

Zarr passes every chunk through its codec pipeline, which for uncompressed chunks costs several times the reading
itself. The chunks of this store are simple enough to be handled here: little-endian numbers with their CRC-32C behind
them; in a shard, chunk after chunk, and at the end an index of (offset, size) per chunk with a CRC-32C of its own (Zarr
v3, sharding codec, index at the end). The tests hold that Zarr reads what is written here, and that what Zarr writes is
read here. Knows no rows, keys or layers.
"""

from collections.abc import Iterable, Iterator
from math import prod

import crc32c
import numpy as np

from strata.store.storage import Storage

CHECKSUM_BYTES = 4
ABSENT = 2**64 - 1
"""Offset and size of a chunk that was never written."""


class Damaged(ValueError):
    """A file that is gone, cut short, or not what was written."""


def chunk_bytes(values: np.ndarray) -> bytes:
    """A chunk as it lies on disk, its checksum behind it."""
    body = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    return body + crc32c.crc32c(body).to_bytes(CHECKSUM_BYTES, "little")


def shard_bytes(chunks: Iterable[np.ndarray | None]) -> list[bytes]:
    """A shard in pieces: its chunks in C order (None for an absent one), then the index."""
    pieces, index, offset = [], [], 0
    for values in chunks:
        if values is None:
            index.append((ABSENT, ABSENT))
            continue
        pieces.append(chunk_bytes(values))
        index.append((offset, len(pieces[-1])))
        offset += len(pieces[-1])
    return [*pieces, chunk_bytes(np.array(index, "<u8"))]


def shard_size(num_chunks: int, present: int, chunk_size: int) -> int:
    """Bytes of a shard with so many chunks, `present` of them there, of `chunk_size` bytes without checksum."""
    return present * (chunk_size + CHECKSUM_BYTES) + 16 * num_chunks + CHECKSUM_BYTES


def read_array(storage: Storage, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array that is one chunk in a file of its own.

    Raises:
        Damaged: not a byte of it can be trusted.
    """
    try:
        data = storage.read_all(name)
    except FileNotFoundError:
        raise Damaged("the file is gone") from None
    body = _checked(data)
    if body is None or len(body) != prod(shape) * np.dtype(dtype).itemsize:
        raise Damaged("checksum does not match")
    return body.view(np.dtype(dtype).newbyteorder("<")).reshape(shape)


def read_index(storage: Storage, name: str, grid: tuple[int, ...]) -> np.ndarray:
    """(offset, size) of every chunk of a shard, uint64 [*grid, 2].

    Raises:
        Damaged: the index cannot be trusted, and so no chunk can be found.
    """
    length = 16 * prod(grid) + CHECKSUM_BYTES
    try:
        body = next(_checked(data) for data in storage.read(name, [(-length, length)]))
        # The buffer is good for this step only.
        index = None if body is None or len(body) != length - CHECKSUM_BYTES else body.view("<u8").copy()
    except FileNotFoundError:
        raise Damaged("the file is gone") from None
    if index is None:
        raise Damaged("the index's checksum does not match")
    return index.reshape(*grid, 2)


def read_chunks(storage: Storage, name: str, places: np.ndarray, num_values: int) -> Iterator[np.ndarray | None]:
    """The float32 values of each chunk, flat, from its (offset, size); None for one that is absent or damaged.

    A yielded array holds until the next one is asked for.
    """
    spans = [(0, 0) if offset == ABSENT else (offset, size) for offset, size in places.tolist()]
    try:
        for data, (_, size) in zip(storage.read(name, spans), spans, strict=True):
            body = _checked(data)
            whole = body is not None and len(data) == size and len(body) == 4 * num_values
            yield body.view("<f4") if whole else None
    except FileNotFoundError:
        raise Damaged("the file is gone") from None


def _checked(data: bytes | memoryview) -> np.ndarray | None:
    """The bytes without their checksum, once it has been found right."""
    if len(data) < CHECKSUM_BYTES:
        return None
    body = np.frombuffer(data, np.uint8)[:-CHECKSUM_BYTES]
    right = crc32c.crc32c(body) == int.from_bytes(data[-CHECKSUM_BYTES:], "little")
    return body if right else None
