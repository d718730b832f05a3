"""How a store lies on disk: the names of its files, and the Zarr v3 documents that describe its arrays.

    <view>.zarr/
      zarr.json              the group; its attribute "strata" is the header below, of which key/zarr.json has a copy
      pooled                 float32 [rows, layers, dim]; a shard is one block of rows, a chunk one layer of CHUNK_ROWS
      num_frames             int32   [rows]; a chunk is one block
      frames/<layer>/<block> float32 [frames of the block's rows, frame_dim], the rows one after the other, one shard
      key                    uint8   [rows, KEY_BYTES]; UTF-8, padded with zeros; a chunk is one block, written last: a
                                     row exists when its key is there

Rows come in blocks of `block_rows`, and every array is cut along the same blocks, so that one writer owns the files of
one block. Every chunk ends in its CRC-32C, where Zarr by itself would check only a shard's index; every document
carries a hash of itself. Any Zarr v3 reader can open a store: rows without a key are NaN.

The documents are written by hand, because only the header may decide how bytes are read: a flipped bit in a document
must not turn into another shape. The tests hold them to be what Zarr writes. Knows no values and does no I/O.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

FORMAT = 2
"""Version of this layout, raised whenever an older reader would misread a newer store. Format 1, whose documents carry
no hash, is read as well, and becomes format 2 when it is next written to."""
READABLE = (1, 2)
KEY_BYTES = 64
CHUNK_ROWS = 64
MOST_BLOCK_ROWS = 1024
SHARD_BYTES = 32 * 2**20
"""Aim for shards of this size: DVC and object stores like tens of large files, not thousands of small ones."""
BLOCK_S = 1800.0
"""Aim for this much audio in a block: what a crash can cost."""
FRAME_CHUNK_BYTES = 2**20
ARRAYS = ("pooled/zarr.json", "num_frames/zarr.json", "key/zarr.json")
"""Documents of the arrays, which grow with every block; the key's last."""
NOTES = "key/notes.json"
"""How rows came about, by which no value is read; in an array's folder, where Zarr's readers look for no node."""
CLAIM = ".lock"
"""Ends the name of the empty file by which a writer claims a block; DVC leaves such files alone."""


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

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk of `pooled`."""
        return CHUNK_ROWS if self.block_rows % CHUNK_ROWS == 0 else self.block_rows

    @property
    def frames_per_chunk(self) -> int:
        """Frames of one chunk of a frames array."""
        return max(1, FRAME_CHUNK_BYTES // (4 * self.frame_dim))


def default_block_rows(row_bytes: int | float, row_s: int | float = 0.0) -> int:
    """Rows per block, from the mean size of a row and the mean duration of an utterance in seconds."""
    rows = min(SHARD_BYTES / row_bytes, BLOCK_S / row_s if row_s else np.inf, MOST_BLOCK_ROWS)
    return max(1, int(rows) // CHUNK_ROWS) * CHUNK_ROWS


# -- names of files ------------------------------------------------------------------------------------------------


def pooled_file(block: int) -> str:
    """The shard of one block of `pooled`."""
    return f"pooled/c/{block}/0/0"


def counts_file(block: int) -> str:
    """One block of `num_frames`."""
    return f"num_frames/c/{block}"


def key_file(block: int) -> str:
    """One block of `key`: the commit record."""
    return f"key/c/{block}/0"


def frames_file(layer: str, block: int) -> str:
    """One block's frames of one layer."""
    return f"frames/{layer}/{block:06d}/c/0/0"


def frames_document_file(layer: str, block: int) -> str:
    """The document of one block's frames of one layer."""
    return f"frames/{layer}/{block:06d}/zarr.json"


def block_files(header: Header, block: int) -> list[str]:
    """All files that a committed block may have; one without frames lacks theirs."""
    files = [pooled_file(block), counts_file(block), key_file(block)]
    for layer in header.frame_layers:
        files += [frames_document_file(layer, block), frames_file(layer, block)]
    return files


def claim_file(block: int) -> str:
    """By which a writer claims a block."""
    return f"{block:06d}{CLAIM}"


def block_of(name: str) -> int | None:
    """The block that a file belongs to; None for a document of the whole store, or a file that is none of ours."""
    parts = name.split("/")
    at = {"pooled": 2, "num_frames": 2, "key": 2, "frames": 2}.get(parts[0])
    number = parts[0].removesuffix(CLAIM) if at is None else parts[at] if len(parts) > at else ""
    return int(number) if number.isdigit() else None


# -- documents -----------------------------------------------------------------------------------------------------


def documents(header: Header, num_blocks: int) -> dict[str, bytes]:
    """The documents of a store with room for `num_blocks` blocks, by file name, in the order to write them.

    The group's comes last: before it is there, there is no store.
    """
    rows, size, layers = num_blocks * header.block_rows, header.block_rows, len(header.layer_names)
    described = {"strata": asdict(header)}
    arrays = {
        "pooled/zarr.json": _array(
            (rows, layers, header.dim), (size, layers, header.dim), "float32", (header.chunk_rows, 1, header.dim)
        ),
        "num_frames/zarr.json": _array((rows,), (size,), "int32", fill=-1),
        "key/zarr.json": _array((rows, KEY_BYTES), (size, KEY_BYTES), "uint8", fill=0, attributes=described),
    }
    folders = ["frames", *(f"frames/{layer}" for layer in header.frame_layers)] if header.frame_layers else []
    groups = {f"{folder}/zarr.json": _group({}) for folder in folders}
    return {name: _sealed(d) for name, d in (groups | arrays | {"zarr.json": _group(described)}).items()}


def frames_document(header: Header, num_frames: int) -> bytes:
    """The document of one layer's frames of one block."""
    chunk = header.frames_per_chunk
    shard = frame_chunks(header, num_frames) * chunk
    return _sealed(
        _array((num_frames, header.frame_dim), (shard, header.frame_dim), "float32", (chunk, header.frame_dim))
    )


def frame_chunks(header: Header, num_frames: int) -> int:
    """Chunks in the shard of so many frames; at least one."""
    return -(-max(1, num_frames) // header.frames_per_chunk)


def num_blocks(document: bytes, header: Header) -> int:
    """Blocks that an array has room for, from its document; 0 if that is damaged."""
    if header.format > 1 and not _is_sealed(document):
        return 0
    try:
        rows = json.loads(document)["shape"][0]
    except (ValueError, KeyError, TypeError, IndexError):
        return 0
    return rows // header.block_rows if isinstance(rows, int) else 0


def read_header(document: bytes) -> Header | None:
    """The header in a document; None if that is damaged, carries none, or one of a format that is not read here."""
    described = _described(document)
    found = described.get("format")
    if found not in READABLE or (found > 1 and not _is_sealed(document)):
        return None
    try:
        header = Header(**described)
        documents(header, 0)
        sound = min(header.block_rows, header.dim, header.frame_dim, len(header.layer_names)) >= 1
    except (TypeError, ValueError, AttributeError, ArithmeticError):
        return None
    return header if sound else None


def later_format(document: bytes) -> int | None:
    """The format that a document claims, if it is one that came after this code."""
    found = _described(document).get("format")
    return found if isinstance(found, int) and found > FORMAT else None


def _described(document: bytes) -> dict:
    try:
        return dict(json.loads(document)["attributes"]["strata"])
    except (ValueError, KeyError, TypeError):
        return {}


def upgraded(header: Header) -> Header:
    """The header as this code writes it."""
    return replace(header, format=FORMAT)


def _array(shape, shard, dtype, chunk=None, fill: int | str = "NaN", attributes: Mapping | None = None) -> dict:
    """A Zarr v3 array; `chunk` where the chunks lie within shards."""
    order = {} if dtype == "uint8" else {"configuration": {"endian": "little"}}
    codecs = [{"name": "bytes"} | order, {"name": "crc32c"}]
    if chunk is not None:
        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        inner = {"chunk_shape": chunk, "codecs": codecs, "index_codecs": index, "index_location": "end"}
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
    return {
        "shape": shape,
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": dict(attributes or {}),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _group(attributes: Mapping) -> dict:
    return {"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"}


def _sealed(document: dict) -> bytes:
    """The document as bytes, with a hash of all the rest of it among its attributes."""
    seal = _hash(document)
    return json.dumps(document | {"attributes": document["attributes"] | {"seal": seal}}, indent=1).encode()


def _is_sealed(data: bytes) -> bool:
    try:
        document = json.loads(data)
        seal = document["attributes"].pop("seal")
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return seal == _hash(document)


def _hash(document: dict) -> str:
    return hashlib.blake2b(json.dumps(document, sort_keys=True).encode(), digest_size=8).hexdigest()


# -- keys ----------------------------------------------------------------------------------------------------------


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
