"""Hidden states by utterance and layer: the one class through which everything else meets the store.

Finds the blocks that hold the rows asked for and feeds arrays to whoever asks, by key and layer. It knows nothing of
the models that made the values nor of the tasks that use them.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, wraps
from pathlib import Path

import numpy as np

from strata.store import blocks, layout
from strata.store.block_store import BlockStore
from strata.store.blocks import Rows
from strata.store.errors import CorruptStore, FingerprintMismatch, StoreError
from strata.store.opening import find_header, is_store, storage_of, view_name
from strata.store.shards import Damaged
from strata.store.storage import Storage

PARALLEL_READS = min(4, os.cpu_count() or 1)
"""Blocks read at the same time, so that the disk's work and ours overlap …"""
PARALLEL_BYTES = 2**25
"""… from so many bytes on; below, threads cost more than they gain."""
Layer = str | int | np.integer
"""A layer's name, or its number, as params.yaml has it."""
MOST_LISTINGS = 20
"""How often the keys are listed anew because a repair has moved them meanwhile."""


def _finding_moved_rows(read: Callable) -> Callable:
    """Reads once more where a block has gone: a writer has put its rows elsewhere, to be rid of damaged ones.

    The order stays that of the keys which this object has already shown.
    """

    @wraps(read)
    def reading(self: "FeatureStore", keys: Sequence[str] | None = None, *arguments, **named):
        try:
            return read(self, keys, *arguments, **named)
        except CorruptStore:
            if self._lock_depth or not self._has_moved():
                raise
            shown = list(self._rows) if keys is None else keys
            self._forget()
            return read(self, shown, *arguments, **named)

    return reading


class FeatureStore(BlockStore):
    """The hidden states of one view; rows are utterances, known by their keys (the manifest's `content` values).

    A row is there when its key is, and then all its values are. Keys and values come back in the order asked for, or in
    the order of the rows where none is given. Readers need no lock: no value that is committed ever changes, and rows
    that a mending writer has moved meanwhile are found again.
    """

    @classmethod
    def open(cls, path: str | Path | Storage) -> "FeatureStore":
        """Opens an existing store: a folder, or the URL of one in a bucket.

        Raises:
            StoreError: there is no store at `path`, or it is of another format.
            CorruptStore: there is one, but what it says of itself cannot be trusted.
        """
        storage = storage_of(path)
        header = find_header(storage)
        if header is None:
            raise StoreError(f"no store at {storage.place}: run `strata extract {view_name(storage)}` first")
        return cls(storage, header)

    @classmethod
    def exists(cls, path: str | Path | Storage) -> bool:
        """Whether there is a store, be it damaged; a creation that was killed has left none."""
        return is_store(storage_of(path))

    @classmethod
    def create(
        cls,
        path: str | Path | Storage,
        *,
        fingerprint: Mapping[str, object],
        layer_names: Sequence[str],
        dim: int,
        frame_rate_hz: float = 0.0,
        frame_layers: Sequence[str] = (),
        frame_dim: int | None = None,
        block_rows: int | None = None,
    ) -> "FeatureStore":
        """Creates an empty store, whole or not at all, and opens it.

        Args:
            path: where; must not hold a store.
            fingerprint: JSON-able fields that determine the values; later writers must bring the same.
            layer_names: one name per layer of `pooled`.
            dim: width of every layer.
            frame_rate_hz: frames per second of audio.
            frame_layers: names of the layers whose frames are kept as well.
            frame_dim: width of one frame; `dim` where not given.
            block_rows: rows that are committed together; chosen from the size of a pooled row where not given.
        """
        storage = storage_of(path)
        header = layout.Header(
            fingerprint=_jsonable(fingerprint),
            layer_names=list(layer_names),
            frame_layers=list(frame_layers),
            dim=int(dim),
            frame_dim=int(frame_dim or dim),
            frame_rate_hz=float(frame_rate_hz),
            block_rows=block_rows or layout.default_block_rows(4 * len(layer_names) * dim),
        )
        with storage.exclusive():
            if cls.exists(storage):
                raise StoreError(f"there is a store at {storage.place} already")
            for name, document in layout.documents(header, 0).items():
                storage.write(name, [document])
            storage.flush()
        return cls(storage, header)

    # -- what is there ---------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The folder of a store on a disk."""
        return Path(self.place)

    @property
    def keys(self) -> list[str]:
        """Keys of all rows, in the order of the rows."""
        return list(self._rows)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers of `pooled`, in order."""
        return tuple(self.header.layer_names)

    def __len__(self) -> int:
        return len(self._rows)

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of `keys` that have no row, each once, in the order given."""
        return [key for key in dict.fromkeys(keys) if key not in self._rows]

    def holds(self, fingerprint: Mapping[str, object]) -> bool:
        """Whether the values are those of this fingerprint."""
        return _jsonable(fingerprint) == self.header.fingerprint

    def check(self, fingerprint: Mapping[str, object]) -> None:
        """Raises FingerprintMismatch, naming the fields, unless the values are those of this fingerprint."""
        if not self.holds(fingerprint):
            raise FingerprintMismatch(self.place, dict(self.header.fingerprint), _jsonable(fingerprint))

    # -- reading ---------------------------------------------------------------------------------------------------

    @_finding_moved_rows
    def pooled(self, keys: Sequence[str] | None = None, layers: Sequence[Layer] | None = None) -> np.ndarray:
        """Time-averaged hidden states, float32 [keys, layers, dim].

        Reads the chunks of the rows and layers asked for and no others.

        Args:
            keys: rows; all where not given.
            layers: names or numbers of layers, in the order wanted; all where not given.

        Raises:
            StoreError: an unknown key or layer.
            CorruptStore: bytes on disk are not what was committed; the message names view, block and rows.
        """
        rows, selected = self.row_numbers(keys), self._layer_numbers(layers)
        values = np.empty((len(rows), len(selected), self.header.dim), np.float32)

        def read(block: int, positions: np.ndarray, within: np.ndarray) -> None:
            place = _slice_if_contiguous(positions)
            part = values[place]  # a view where the rows asked for follow one another
            blocks.read_pooled(self.storage, self.header, block, within, selected, part)
            if not isinstance(place, slice):
                values[place] = part

        self._read_blocks(rows, read, parallel=values.nbytes >= PARALLEL_BYTES)
        return values

    @_finding_moved_rows
    def num_frames(self, keys: Sequence[str] | None = None) -> np.ndarray:
        """Valid frames behind each pooled row, int32 [keys]."""
        rows = self.row_numbers(keys)
        values = np.empty(len(rows), np.int32)

        def read(block: int, positions: np.ndarray, within: np.ndarray) -> None:
            values[positions] = blocks.read_counts(self.storage, self.header, block)[within]

        self._read_blocks(rows, read)
        return values

    @_finding_moved_rows
    def frames(self, keys: Sequence[str], layer: Layer) -> list[np.ndarray]:
        """Frames of one layer, by its name or number, of each utterance: float32 [num_frames, frame_dim] each.

        Raises:
            StoreError: an unknown key, or a layer whose frames were not kept.
            CorruptStore: as for `pooled`.
        """
        layer = str(layer)
        if layer not in self.header.frame_layers:
            kept = ", ".join(self.header.frame_layers) or "none"
            raise StoreError(
                f"{self.place}: no frames of layer {layer!r} were kept (kept: {kept}); list it in the view's `frames`"
            )
        rows = self.row_numbers(keys)
        result: list[np.ndarray] = [np.empty(0)] * len(rows)

        def read(block: int, positions: np.ndarray, within: np.ndarray) -> None:
            found = blocks.read_frames(self.storage, self.header, block, within, layer)
            for position, values in zip(positions, found, strict=True):
                result[position] = values

        self._read_blocks(rows, read)
        return result

    def dask(self, layers: Sequence[Layer] | None = None):
        """`pooled` of all rows as a dask array [rows, layers, dim], one chunk per block, in the order of `keys`.

        Args:
            layers: see `pooled`.
        """
        import dask
        import dask.array

        num_layers, keys = len(self._layer_numbers(layers)), self.keys
        parts = [
            dask.array.from_delayed(
                dask.delayed(_read_pooled)(self.storage, [keys[i] for i in positions], layers),
                shape=(len(positions), num_layers, self.header.dim),
                dtype=np.float32,
            )
            for _, positions in self._by_block(self.row_numbers(None))
        ]
        if parts:
            return dask.array.concatenate(parts)
        nothing = (0, num_layers, self.header.dim)
        # Its chunks are said: left to itself dask divides by the rows, of which there are none.
        return dask.array.zeros(nothing, np.float32, chunks=nothing)

    def zarr(self):
        """The store as zarr-python's own arrays, read-only: a `zarr.Group` of `pooled`, `num_frames`, `key`, `frames`.

        `row_numbers` says whose row is whose; those of no key are NaN. A row that a repair moves is not found again.
        """
        from strata.store import zarr_arrays

        return zarr_arrays.group(self.storage)

    def row_numbers(self, keys: Sequence[str] | None = None) -> np.ndarray:
        """Where the rows of `keys` (all where not given) lie in the arrays of `zarr`, int64 [keys].

        Raises:
            StoreError: an unknown key.
        """
        if keys is None:
            return np.fromiter(self._rows.values(), np.int64, len(self._rows))
        if isinstance(keys, str):
            raise StoreError(f"{self.place}: expected a list of keys, got the text {keys!r}")
        absent = self.missing(keys)
        if absent:
            raise StoreError(
                f"{self.place}: {len(absent)} of {len(keys)} utterances have no row, the first {absent[0]!r}; "
                f"run `strata extract {self.view}`"
            )
        return np.fromiter((self._rows[key] for key in keys), np.int64, len(keys))

    # -- writing ---------------------------------------------------------------------------------------------------

    def append(
        self,
        keys: Sequence[str],
        pooled: np.ndarray,
        num_frames: Sequence[int] | np.ndarray,
        frames: Mapping[str, Sequence[np.ndarray]] | None = None,
    ) -> None:
        """Adds rows, block by block; each block is there whole, or not at all, whenever the process dies.

        A block's values are written and synced first, its keys last. Several processes append to one store by
        `reserve`, `write_block` and `commit`.

        Args:
            keys: one per row, none of them in the store.
            pooled: [keys, layers, dim], finite in float32.
            num_frames: valid frames per row.
            frames: for each of the store's frame layers, one array [num_frames, frame_dim] per row.

        Raises:
            StoreError: shapes, names or values are not as above; nothing is written then.
            StoreLocked: another process is writing.
        """
        try:
            rows = blocks.checked(self.header, Rows(keys, pooled, np.asarray(num_frames), frames or {}))
        except ValueError as error:
            raise StoreError(f"{self.place}: {error}") from error
        with self.locked():
            if len(self.missing(keys)) < len(keys):
                raise StoreError(f"{self.place}: a key is in the store already; append only `missing(keys)`")
            self._append(rows)

    def commit(self, block: int, keys: Sequence[str], num_frames: Sequence[int] | np.ndarray, claim: str) -> None:
        """See `BlockStore.commit`."""
        super().commit(block, keys, num_frames, claim)
        if "_rows" in self.__dict__:  # else they are read when first asked for
            last = next(reversed(self._rows.values()), -1)
            if block * self.header.block_rows > last:
                self._enter(self._rows, block, keys)
            else:  # of several writers, a later block's was the quicker one
                self._forget()

    # -- inside ----------------------------------------------------------------------------------------------------

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Row numbers by key, ascending."""
        for _ in range(MOST_LISTINGS):
            rows: dict[str, int] = {}
            listed = self.committed()
            try:
                for block in listed:
                    self._enter(rows, block, self._keys_of(block))
            except CorruptStore:
                if set(listed) <= set(self.committed()):
                    raise
                continue  # a writer has taken the block away meanwhile, and put its rows elsewhere
            return rows
        raise CorruptStore(f"{self.place} is being repaired; try again when that is done")

    def _enter(self, rows: dict[str, int], block: int, keys: Sequence[str]) -> None:
        """Adds a block's rows behind all others; a key that an earlier block has too is this block's from now on."""
        first = block * self.header.block_rows
        for row, key in enumerate(keys, first):
            if key:
                rows.pop(key, None)
                rows[key] = row

    def _forget(self) -> None:
        self.__dict__.pop("_rows", None)

    def _has_moved(self) -> bool:
        rows = self.__dict__.get("_rows", {})
        return not {row // self.header.block_rows for row in rows.values()} <= set(self.committed())

    def _layer_numbers(self, layers: Sequence[Layer] | None) -> np.ndarray:
        names = self.layer_names
        if isinstance(layers, str):
            raise StoreError(f"{self.place}: expected a list of layers, got the text {layers!r}")
        layers = None if layers is None else list(map(str, layers))
        unknown = [layer for layer in layers or () if layer not in names]
        if unknown:
            raise StoreError(f"{self.place}: no layer {unknown[0]!r}; it has {', '.join(map(repr, names))}")
        return np.arange(len(names)) if layers is None else np.array([names.index(layer) for layer in layers], np.int64)

    def _by_block(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(block, positions within `rows`), the blocks in ascending order."""
        numbers = rows // self.header.block_rows
        order = np.argsort(numbers, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else ():
            yield int(numbers[part[0]]), part

    def _read_blocks(
        self, rows: np.ndarray, read: Callable[[int, np.ndarray, np.ndarray], None], parallel: bool = False
    ) -> None:
        """Calls `read(block, positions within rows, rows within the block)` for every block that holds some."""

        def read_one(part: tuple[int, np.ndarray]) -> None:
            block, positions = part
            within = rows[positions] - block * self.header.block_rows
            try:
                read(block, positions, within)
            except Damaged as error:
                raise self._corrupt(self._damage(block, within, str(error))) from error

        parts = list(self._by_block(rows))
        if parallel and len(parts) > 1:
            with ThreadPoolExecutor(PARALLEL_READS) as pool:
                list(pool.map(read_one, parts))
        else:
            for part in parts:
                read_one(part)


def _read_pooled(storage: Storage, keys: Sequence[str], layers: Sequence[Layer] | None) -> np.ndarray:
    return FeatureStore.open(storage).pooled(keys, layers)


def _slice_if_contiguous(numbers: np.ndarray) -> slice | np.ndarray:
    first = int(numbers[0]) if len(numbers) else 0
    return slice(first, first + len(numbers)) if (np.diff(numbers) == 1).all() else numbers


def _jsonable(mapping: Mapping[str, object]) -> dict:
    """The mapping as it comes back from JSON (tuples as lists), so that stored and wanted compare equal."""
    return json.loads(json.dumps(dict(mapping)))
