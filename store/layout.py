"""How a store lies on disk: names, shapes, shards and checksums. It reads and writes no values.

    <view>.zarr/
      zarr.json              the group; its attribute "strata" is the header below
      pooled                 float32 [rows, layers, dim]; a shard is one block of rows, a chunk one layer of CHUNK_ROWS
      num_frames             int32   [rows]
      frames/<layer>/<block> float32 [frames of the block's rows, frame_dim], the rows one after the other
      key                    uint8   [rows, KEY_BYTES]; UTF-8, padded with zeros; written last: a row exists when its
                                     key is there

Rows come in blocks of `block_rows`, and every array is cut along the same blocks, so that one writer owns the files of
one block and no file is ever written twice. An append starts a new block, which leaves rows without a key behind it:
they cost index space but no bytes. Every chunk ends in its CRC-32C; Zarr by itself would check only a shard's index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

FORMAT = 1
"""Version of this layout, raised whenever an older reader would misread a newer store."""
KEY_BYTES = 64
CHUNK_ROWS = 64
SHARD_BYTES = 32 * 2**20
"""Aim for shards of this size: DVC and object stores like tens of large files, not thousands of small ones."""
FRAME_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Header:
    """What a store says of itself: enough to read it without the model that made it."""

    fingerprint: Mapping[str, object]
    layer_names: Sequence[str]
    frame_layers: Sequence[str]
    dim: int
    frame_dim: int
    frame_rate_hz: float
    block_rows: int
    format: int = FORMAT


def default_block_rows(row_bytes: int | float) -> int:
    """Rows per block: about SHARD_BYTES of values, and few enough that a crash costs minutes, not hours."""
    return int(np.clip(SHARD_BYTES // row_bytes // CHUNK_ROWS, 1, 4)) * CHUNK_ROWS


def create(path: Path, header: Header) -> None:
    """Writes an empty store at `path`, which must not exist."""
    group = zarr.open_group(path, mode="w-", zarr_format=3)
    block, layers = header.block_rows, len(header.layer_names)
    chunk = CHUNK_ROWS if block % CHUNK_ROWS == 0 else block
    _array(group, "pooled", (0, layers, header.dim), (chunk, 1, header.dim), np.nan, shards=block)
    _array(group, "num_frames", (0,), (block,), -1, dtype="int32")
    _array(group, "key", (0, KEY_BYTES), (block, KEY_BYTES), 0, dtype="uint8")
    # The header comes last: a group without one was never finished.
    group.attrs["strata"] = asdict(header)


def create_frames(group: zarr.Group, layer: str, block: int, num_frames: int, dim: int) -> zarr.Array:
    """The array for one layer's frames of one block, in a single file; replaces what a killed writer left."""
    chunk = max(1, FRAME_CHUNK_BYTES // (4 * dim))
    shard = -(-max(1, num_frames) // chunk) * chunk
    return _array(
        group, frames_name(layer, block), (num_frames, dim), (chunk, dim), np.nan, shards=shard, overwrite=True
    )


def frames_name(layer: str, block: int) -> str:
    """Path of one block's frames within the group."""
    return f"frames/{layer}/{block:06d}"


def encode_keys(keys: Sequence[str]) -> np.ndarray:
    """Keys as zero-padded UTF-8, uint8 [len(keys), KEY_BYTES].

    Raises:
        ValueError: a key is empty, holds a NUL, or is longer than KEY_BYTES bytes.
    """
    encoded = [key.encode() for key in keys]
    for key, code in zip(keys, encoded, strict=True):
        if not 0 < len(code) <= KEY_BYTES or b"\0" in code:
            raise ValueError(f"a key takes 1 to {KEY_BYTES} bytes of UTF-8 without NUL, got {key!r}")
    return np.array(encoded, dtype=f"S{KEY_BYTES}").view(np.uint8).reshape(len(keys), KEY_BYTES)


def decode_keys(codes: np.ndarray) -> list[str]:
    """Inverse of `encode_keys`; a row without a key gives ''."""
    return [code.decode() for code in np.ascontiguousarray(codes).view(f"S{KEY_BYTES}").ravel().tolist()]


def _array(group, name, shape, chunks, fill_value, *, shards=None, dtype="float32", overwrite=False) -> zarr.Array:
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        shards=None if shards is None else (shards, *shape[1:]),
        dtype=dtype,
        fill_value=fill_value,
        compressors=[Crc32cCodec()],  # hidden states hardly compress: the checksum is the only codec behind the bytes
        overwrite=overwrite,
    )
