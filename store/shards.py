"""Reading `pooled` straight from its shards: Zarr's own bytes at the speed of the disk.

Zarr passes every chunk through its codec pipeline, which for uncompressed chunks costs several times the reading
itself. A shard of this store is simple enough to be read by hand: chunks [rows, 1 layer, dim] of little-endian float32,
each with its CRC-32C behind it, and at the end an index of (offset, size) per chunk with a CRC-32C of its own (Zarr v3,
sharding codec, index at the end). Zarr still writes, and reads the same values: the tests hold the two together.
"""

import os
from pathlib import Path

import google_crc32c
import numpy as np

CHECKSUM_BYTES = 4
ABSENT = 2**64 - 1
"""Offset of a chunk that was never written."""


class DamagedShard(ValueError):
    """A shard that is gone, cut short, or not what was written."""


def read(
    path: Path, shape: tuple[int, int], chunk_rows: int, rows: np.ndarray, layers: np.ndarray, out: np.ndarray
) -> None:
    """Fills `out` with rows and layers of one shard; reads the chunks that hold them and no others.

    Args:
        path: the shard's file.
        shape: (rows, layers) of the shard; the rows a multiple of `chunk_rows`.
        chunk_rows: rows of a chunk.
        rows: row numbers within the shard, in any order.
        layers: layer numbers, in any order.
        out: float32 [rows, layers, dim].

    Raises:
        DamagedShard: a byte of what was read is not what was written.
    """
    with _opened(path) as file:
        index = _index(file, (shape[0] // chunk_rows, shape[1]))
        for number in np.unique(rows // chunk_rows):
            positions = np.flatnonzero(rows // chunk_rows == number)
            within = rows[positions] - number * chunk_rows
            whole = np.array_equal(within, np.arange(chunk_rows)) and positions[-1] - positions[0] == chunk_rows - 1
            for j, layer in enumerate(layers):
                chunk = _chunk(file, *index[number, layer].tolist()).reshape(chunk_rows, out.shape[2])
                if whole:  # the common case, a plain copy
                    out[positions[0] : positions[0] + chunk_rows, j] = chunk
                else:
                    out[positions, j] = chunk[within]


def _opened(path: Path):
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError:
        raise DamagedShard(f"{path.name} is gone") from None


def _index(file, shape: tuple[int, int]) -> np.ndarray:
    """(offset, size) of every chunk, uint64 [row chunks, layers, 2]."""
    size = 16 * shape[0] * shape[1] + CHECKSUM_BYTES
    end = os.fstat(file.fileno()).st_size
    return _checked(file, end - size, size).view("<u8").reshape(*shape, 2)


def _chunk(file, offset: int, size: int) -> np.ndarray:
    if offset == ABSENT:
        raise DamagedShard("values are missing")
    return _checked(file, offset, size).view("<f4")


def _checked(file, offset: int, size: int) -> np.ndarray:
    """The bytes at `offset` without their checksum, once it has been found right."""
    data = os.pread(file.fileno(), size, offset) if offset >= 0 else b""
    body, checksum = np.frombuffer(data, np.uint8)[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if len(data) != size or google_crc32c.value(body) != int.from_bytes(checksum, "little"):
        raise DamagedShard("checksum does not match")
    return body
