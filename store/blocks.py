"""One block of rows: its files written, read and checked.

A block is what one writer commits at once. Its values come first, its keys last, and no value of it is written twice:
block numbers are given out once. Rows are counted from the start of the block here. Knows one block at a time, and
neither locks nor other blocks.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from strata.store import layout, shards
from strata.store.layout import Header
from strata.store.shards import Damaged
from strata.store.storage import Storage


@dataclass(frozen=True)
class Rows:
    """The rows of one block, on their way to the disk."""

    keys: Sequence[str]
    pooled: np.ndarray
    """float32 [rows, layers, dim]."""
    num_frames: np.ndarray
    """int32 [rows]."""
    frames: Mapping[str, Sequence[np.ndarray]]
    """float32 [num_frames, frame_dim] of each row, by layer."""

    def part(self, start: int, stop: int) -> "Rows":
        """The rows from `start` up to `stop`."""
        span = slice(start, stop)
        frames = {layer: values[span] for layer, values in self.frames.items()}
        return Rows(self.keys[span], self.pooled[span], self.num_frames[span], frames)


# -- writing -------------------------------------------------------------------------------------------------------


def checked(header: Header, rows: Rows) -> Rows:
    """The rows as they will be stored, once everything that could be wrong with them has been ruled out.

    Raises:
        ValueError: keys, shapes or layer names do not fit, or values are not finite in float32.
    """
    keys, counts = rows.keys, np.asarray(rows.num_frames)
    layout.encode_keys(keys)
    if len(set(keys)) < len(keys):
        raise ValueError("a key is given twice")
    expected = (len(keys), len(header.layer_names), header.dim)
    if np.shape(rows.pooled) != expected:
        raise ValueError(f"expected pooled values of shape {expected}, got {np.shape(rows.pooled)}")
    if counts.shape != (len(keys),) or (counts < 0).any():
        raise ValueError(f"expected one frame count per key, got {counts.shape}")
    if set(rows.frames) != set(header.frame_layers):
        raise ValueError(f"expected frames of layers {list(header.frame_layers)}, got {sorted(rows.frames)}")
    for layer, values in rows.frames.items():
        if [np.shape(v) for v in values] != [(n, header.frame_dim) for n in counts]:
            raise ValueError(f"frames of layer {layer} do not fit the frame counts or width {header.frame_dim}")
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused just below
        pooled = np.asarray(rows.pooled).astype(np.float32, copy=False)
        frames = {n: [np.asarray(v).astype(np.float32, copy=False) for v in rows.frames[n]] for n in rows.frames}
    values = zip(keys, pooled, *frames.values(), strict=True)
    bad = [key for key, *arrays in values if not all(np.isfinite(array).all() for array in arrays)]
    if bad:
        raise ValueError(f"values that are not finite in float32 for {len(bad)} keys, the first {bad[0]!r}")
    return Rows(list(keys), pooled, counts.astype(np.int32), frames)


def write_values(storage: Storage, header: Header, block: int, rows: Rows) -> None:
    """Writes all of a block but its keys; returns when it survives a power cut."""
    size, chunk = header.block_rows, header.chunk_rows
    pooled = _padded(rows.pooled, -(-len(rows.pooled) // chunk) * chunk, np.nan)
    chunks = [
        pooled[start : start + chunk, layer] if start < len(pooled) else None
        for start in range(0, size, chunk)
        for layer in range(pooled.shape[1])
    ]
    storage.write(layout.pooled_file(block), shards.shard_bytes(chunks))
    storage.write(layout.counts_file(block), [shards.chunk_bytes(_padded(rows.num_frames, size, -1))])
    for layer, values in rows.frames.items():
        count, chunk = int(rows.num_frames.sum(dtype=np.int64)), header.frames_per_chunk
        storage.write(layout.frames_document_file(layer, block), [layout.frames_document(header, count)])
        if count:
            storage.write(layout.frames_file(layer, block), shards.shard_bytes(_joined(values, chunk)))
    storage.flush()


def write_frame_documents(storage: Storage, header: Header, block: int) -> None:
    """Writes the documents of a committed block's frames again."""
    count = int(_frame_spans(storage, header, block)[-1, 1])
    for layer in header.frame_layers:
        storage.write(layout.frames_document_file(layer, block), [layout.frames_document(header, count)])


def write_keys(storage: Storage, header: Header, block: int, keys: Sequence[str]) -> None:
    """Commits a block whose values are there; returns when that survives a power cut."""
    codes = _padded(layout.encode_keys(keys), header.block_rows, 0)
    storage.write(layout.key_file(block), [shards.chunk_bytes(codes)])
    storage.flush()


def remove(storage: Storage, names: Collection[str]) -> None:
    """Removes files of a block, its keys first, so that no row is there without its values."""
    for name in sorted(names, key=lambda name: not name.startswith("key/")):
        storage.remove(name)
        if name.startswith("key/"):
            storage.flush()


# -- reading -------------------------------------------------------------------------------------------------------


def read_keys(storage: Storage, header: Header, block: int) -> list[str]:
    """The keys of a committed block, '' for an unused row.

    Raises:
        Damaged: they are not what was written. So do the other readers here.
    """
    codes = shards.read_array(storage, layout.key_file(block), (header.block_rows, layout.KEY_BYTES), "uint8")
    return layout.decode_keys(codes)


def read_counts(storage: Storage, header: Header, block: int) -> np.ndarray:
    """Frames of every row, int32 [block_rows]; -1 for an unused row."""
    return shards.read_array(storage, layout.counts_file(block), (header.block_rows,), "int32")


def read_pooled(
    storage: Storage, header: Header, block: int, rows: np.ndarray, layers: np.ndarray, out: np.ndarray
) -> None:
    """Fills `out` [rows, layers, dim]; reads the chunks that hold the rows and layers, and no others."""
    chunk, name = header.chunk_rows, layout.pooled_file(block)
    index = shards.read_index(storage, name, (header.block_rows // chunk, len(header.layer_names)))
    numbers = np.unique(rows // chunk)
    places = index[numbers][:, layers].reshape(-1, 2)
    values = shards.read_chunks(storage, name, places, chunk * header.dim)
    for number in numbers:
        positions = np.flatnonzero(rows // chunk == number)
        within = rows[positions] - number * chunk
        # The common case is a plain copy: rows that follow one another, there as here.
        run = _is_run(positions) and _is_run(within)
        target = slice(positions[0], positions[-1] + 1) if run else positions
        source = slice(within[0], within[-1] + 1) if run else within
        for j in range(len(layers)):
            found = next(values)
            if found is None:
                raise Damaged(f"layer {header.layer_names[layers[j]]}: checksum does not match")
            out[target, j] = found.reshape(chunk, header.dim)[source]


def read_frames(storage: Storage, header: Header, block: int, rows: np.ndarray, layer: str) -> list[np.ndarray]:
    """One layer's frames of each of the rows, float32 [num_frames, frame_dim]."""
    spans = _frame_spans(storage, header, block)[rows]
    result = [np.empty((stop - start, header.frame_dim), np.float32) for start, stop in spans.tolist()]
    for number, values in _frame_chunks(storage, header, block, layer, spans):
        if values is None:
            raise Damaged(f"frames of layer {layer}: checksum does not match")
        first = number * header.frames_per_chunk
        last = first + header.frames_per_chunk
        for i in np.flatnonzero((spans[:, 0] < last) & (spans[:, 1] > first)):
            start, stop = max(spans[i, 0], first), min(spans[i, 1], last)
            result[i][start - spans[i, 0] : stop - spans[i, 0]] = values[start - first : stop - first]
    return result


def read_rows(storage: Storage, header: Header, block: int, keys: Sequence[str], rows: np.ndarray) -> Rows:
    """All that a block holds of the rows, whose keys are given."""
    layers = np.arange(len(header.layer_names))
    pooled = np.empty((len(rows), len(layers), header.dim), np.float32)
    read_pooled(storage, header, block, rows, layers, pooled)
    counts = read_counts(storage, header, block)[rows]
    frames = {layer: read_frames(storage, header, block, rows, layer) for layer in header.frame_layers}
    return Rows(keys, pooled, counts, frames)


# -- checking ------------------------------------------------------------------------------------------------------


def num_bytes(header: Header, num_rows: int, num_frames: int) -> int:
    """Bytes of all files of a block: values of so many rows, with so many frames together, and what fills them up to
    whole chunks."""
    keys = header.block_rows * layout.KEY_BYTES + shards.CHECKSUM_BYTES
    documents = len(header.frame_layers) * len(layout.frames_document(header, num_frames))
    return sum(_expected_sizes(header, 0, num_rows, num_frames).values()) + keys + documents


def check_sizes(storage: Storage, header: Header, block: int, num_rows: int, num_frames: int) -> None:
    """Checks that every file that `write_values` makes is there in full, without reading it.

    Raises:
        Damaged: one is not.
    """
    for name, expected in _expected_sizes(header, block, num_rows, num_frames).items():
        try:
            found = storage.size(name)
        except FileNotFoundError:
            raise Damaged(f"{name} is not there") from None
        if found != expected:
            raise Damaged(f"{name}: expected {expected} bytes, found {found}")


@dataclass(frozen=True)
class Flaw:
    """Something that is not what was written."""

    rows: np.ndarray
    """Which rows it concerns."""
    what: str
    of_values: bool = True
    """Whether values are lost; a document can be written again."""


def flaws(storage: Storage, header: Header, block: int, rows: np.ndarray) -> Iterator[Flaw]:
    """Reads all that a block holds of the rows; a flaw wherever something is wrong."""
    try:
        counts = read_counts(storage, header, block)
    except Damaged as error:
        yield Flaw(rows, f"num_frames: {error}")
        return
    if (counts[rows] < 0).any():
        yield Flaw(rows[counts[rows] < 0], "num_frames: missing")
        return
    yield from _pooled_flaws(storage, header, block, rows)
    for layer in header.frame_layers:
        yield from _frames_flaws(storage, header, block, rows, layer)


def _pooled_flaws(storage, header, block, rows) -> Iterator[Flaw]:
    chunk, name, num_layers = header.chunk_rows, layout.pooled_file(block), len(header.layer_names)
    numbers = np.unique(rows // chunk)
    try:
        index = shards.read_index(storage, name, (header.block_rows // chunk, num_layers))
        places = index[numbers].reshape(-1, 2)
        sound = [v is not None for v in shards.read_chunks(storage, name, places, chunk * header.dim)]
    except Damaged as error:
        yield Flaw(rows, f"pooled: {error}")
        return
    for number, layers in zip(numbers, np.reshape(sound, (len(numbers), num_layers)), strict=True):
        if not layers.all():
            names = ", ".join(header.layer_names[i] for i in np.flatnonzero(~layers))
            yield Flaw(rows[rows // chunk == number], f"pooled, layer {names}: checksum does not match")


def _frames_flaws(storage, header, block, rows, layer) -> Iterator[Flaw]:
    spans = _frame_spans(storage, header, block)[rows]
    try:
        document = storage.read_all(layout.frames_document_file(layer, block))
    except FileNotFoundError:
        document = b""
    total = int(np.maximum(read_counts(storage, header, block), 0).sum())
    if header.format > 1 and document != layout.frames_document(header, total):
        yield Flaw(rows, f"frames of layer {layer}: zarr.json is not what was written", of_values=False)
    try:
        for number, values in _frame_chunks(storage, header, block, layer, spans):
            if values is None:
                first, last = number * header.frames_per_chunk, (number + 1) * header.frames_per_chunk
                hit = (spans[:, 0] < last) & (spans[:, 1] > first) & (spans[:, 1] > spans[:, 0])
                yield Flaw(rows[hit], f"frames of layer {layer}: checksum does not match")
    except Damaged as error:
        yield Flaw(rows[spans[:, 1] > spans[:, 0]], str(error))


def _expected_sizes(header: Header, block: int, num_rows: int, num_frames: int) -> dict[str, int]:
    chunk, num_layers = header.chunk_rows, len(header.layer_names)
    grid, present = header.block_rows // chunk * num_layers, -(-num_rows // chunk) * num_layers
    expected = {
        layout.pooled_file(block): shards.shard_size(grid, present, 4 * chunk * header.dim),
        layout.counts_file(block): 4 * header.block_rows + shards.CHECKSUM_BYTES,
    }
    for layer in header.frame_layers if num_frames else ():
        chunks = layout.frame_chunks(header, num_frames)
        size = 4 * header.frames_per_chunk * header.frame_dim
        expected[layout.frames_file(layer, block)] = shards.shard_size(chunks, chunks, size)
    return expected


# -- frames within a block -----------------------------------------------------------------------------------------


def _frame_spans(storage: Storage, header: Header, block: int) -> np.ndarray:
    """(start, stop) of every row's frames within the block's, int64 [block_rows, 2]."""
    counts = np.maximum(read_counts(storage, header, block), 0).astype(np.int64)
    stops = np.cumsum(counts)
    return np.stack([stops - counts, stops], axis=1)


def _frame_chunks(
    storage: Storage, header: Header, block: int, layer: str, spans: np.ndarray
) -> Iterator[tuple[int, np.ndarray | None]]:
    """(number, values [frames, frame_dim] or None if damaged) of the chunks that hold any of the spans."""
    total = int(_frame_spans(storage, header, block)[-1, 1])
    per_chunk, name = header.frames_per_chunk, layout.frames_file(layer, block)
    wanted = [np.arange(start // per_chunk, -(-stop // per_chunk)) for start, stop in spans if stop > start]
    if not wanted:
        return
    numbers = np.unique(np.concatenate(wanted))
    try:
        index = shards.read_index(storage, name, (layout.frame_chunks(header, total), 1))[:, 0]
        chunks = shards.read_chunks(storage, name, index[numbers], per_chunk * header.frame_dim)
        for number, values in zip(numbers.tolist(), chunks, strict=True):
            yield number, None if values is None else values.reshape(per_chunk, header.frame_dim)
    except Damaged as error:
        raise Damaged(f"frames of layer {layer}: {error}") from error


def _joined(arrays: Sequence[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """The arrays one after the other, in pieces of one length, NaN behind the end; in the memory of one piece."""
    piece, filled = np.full((length, *arrays[0].shape[1:]), np.nan, np.float32), 0
    for array in arrays:
        while len(array):
            taken = min(len(array), length - filled)
            piece[filled : filled + taken] = array[:taken]
            array, filled = array[taken:], filled + taken
            if filled == length:
                yield piece
                piece, filled = np.full_like(piece, np.nan), 0
    if filled:
        yield piece


def _is_run(numbers: np.ndarray) -> bool:
    return np.array_equal(numbers, np.arange(numbers[0], numbers[0] + len(numbers)))


def _padded(values: np.ndarray, length: int, fill: int | float) -> np.ndarray:
    padded = np.full((length, *values.shape[1:]), fill, values.dtype)
    padded[: len(values)] = values
    return padded
