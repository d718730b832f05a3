"""Reading and appending rows: the one class through which everything else meets the store.

Reads what `layout` describes; feeds arrays to whoever asks, by key and layer. It knows nothing of the models that made
the values nor of the tasks that use them.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import zarr

from store import commit, layout, shards
from store.errors import CorruptStore, FingerprintMismatch, StoreError
from store.lock import exclusive


class FeatureStore:
    """The hidden states of one view; rows are utterances, known by their keys (the manifest's `content` values).

    A row is there when its key is, and then all its values are: see `append` for the order of writes. Keys and values
    come back in the order asked for, or in the order of the rows where none is given.
    """

    def __init__(self, path: Path, group: zarr.Group):
        self.path = path
        header = group.attrs.get("strata")
        if header is None or header.get("format") != layout.FORMAT:
            found = "no Strata header" if header is None else f"format {header.get('format')}"
            raise StoreError(f"{path}: expected a store of format {layout.FORMAT}, found {found}")
        self._group = group
        self.header = layout.Header(**header)
        self._lock_depth = 0
        self._load_keys()

    @classmethod
    def open(cls, path: str | Path) -> "FeatureStore":
        """Opens an existing store.

        Raises:
            StoreError: there is no store at `path`, or it is of another format.
        """
        path = Path(path)
        if not path.is_dir():
            raise StoreError(f"no store at {path}: run `strata extract {path.stem}` first")
        try:
            group = zarr.open_group(path, mode="r+", zarr_format=3)
        except FileNotFoundError as error:
            raise StoreError(f"{path}: expected a Zarr v3 group, found none ({error})") from error
        return cls(path, group)

    @classmethod
    def create(
        cls,
        path: str | Path,
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
            path: where; must not exist.
            fingerprint: JSON-able fields that determine the values; later writers must bring the same.
            layer_names: one name per layer of `pooled`.
            dim: width of every layer.
            frame_rate_hz: frames per second of audio.
            frame_layers: names of the layers whose frames are kept as well.
            frame_dim: width of one frame; `dim` where not given.
            block_rows: rows that are committed together; chosen from the size of a pooled row where not given.
        """
        path = Path(path)
        header = layout.Header(
            fingerprint=_jsonable(fingerprint),
            layer_names=list(layer_names),
            frame_layers=list(frame_layers),
            dim=int(dim),
            frame_dim=int(frame_dim or dim),
            frame_rate_hz=float(frame_rate_hz),
            block_rows=block_rows or layout.default_block_rows(4 * len(layer_names) * dim),
        )
        with exclusive(path):
            if path.exists():
                raise StoreError(f"there is a store at {path} already")
            unfinished = path.with_name(path.name + ".tmp")
            shutil.rmtree(unfinished, ignore_errors=True)
            layout.create(unfinished, header)
            commit.sync(unfinished, (file for file in unfinished.rglob("*") if file.is_file()))
            unfinished.rename(path)
            commit.sync(path.parent, ())
        return cls.open(path)

    # -- what is there ---------------------------------------------------------------------------------------------

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
            raise FingerprintMismatch(self.path, dict(self.header.fingerprint), _jsonable(fingerprint))

    # -- reading ---------------------------------------------------------------------------------------------------

    def pooled(self, keys: Sequence[str] | None = None, layers: Sequence[str] | None = None) -> np.ndarray:
        """Time-averaged hidden states, float32 [keys, layers, dim].

        Reads the chunks of the rows and layers asked for and no others.

        Args:
            keys: rows; all where not given.
            layers: layer names; all where not given.

        Raises:
            StoreError: an unknown key or layer.
            CorruptStore: bytes on disk are not what was committed; the message names view, block and rows.
        """
        rows, selected = self._row_numbers(keys), self._layer_numbers(layers)
        values = np.empty((len(rows), len(selected), self.header.dim), np.float32)
        size, pooled = self.header.block_rows, self._group["pooled"]
        for block, positions in self._by_block(rows):
            place = _slice_if_contiguous(positions)
            part = values[place]  # a view where the rows asked for follow one another
            shard = self.path / "pooled" / "c" / str(block) / "0" / "0"
            within = rows[positions] - block * size
            try:
                shards.read(shard, (size, pooled.shape[1]), pooled.chunks[0], within, selected, out=part)
            except shards.DamagedShard as error:
                raise self._corrupt(block, rows[positions], f"pooled: {error}") from error
            if not isinstance(place, slice):
                values[place] = part
        return values

    def num_frames(self, keys: Sequence[str] | None = None) -> np.ndarray:
        """Valid frames behind each pooled row, int32 [keys]."""
        rows = self._row_numbers(keys)
        values = np.empty(len(rows), np.int32)
        for block, positions in self._by_block(rows):
            values[positions] = self._read_counts(block, rows[positions])
            if (values[positions] < 0).any():
                raise self._corrupt(block, rows[positions], "frame counts are missing")
        return values

    def frames(self, keys: Sequence[str], layer: str) -> list[np.ndarray]:
        """One layer's frames of each utterance, float32 [num_frames, frame_dim] each.

        Raises:
            StoreError: an unknown key, or a layer whose frames were not kept.
            CorruptStore: as for `pooled`.
        """
        if layer not in self.header.frame_layers:
            kept = ", ".join(self.header.frame_layers) or "none"
            raise StoreError(
                f"{self.path}: no frames of layer {layer!r} were kept (kept: {kept}); list it in the view's `frames`"
            )
        rows = self._row_numbers(keys)
        result: list[np.ndarray] = [np.empty(0)] * len(rows)
        for block, positions in self._by_block(rows):
            ends = self._frame_ends(block)
            for position in positions:
                row = rows[position] - block * self.header.block_rows
                span = slice(ends[row - 1] if row else 0, ends[row])
                values = self._read_frames(layer, block, span)
                if len(values) != span.stop - span.start or np.isnan(values).any():
                    raise self._corrupt(block, rows[[position]], f"frames of layer {layer} are missing")
                result[position] = values
        return result

    def dask(self, layers: Sequence[str] | None = None):
        """`pooled` of all rows as a dask array [rows, layers, dim], one chunk per block, in the order of `keys`."""
        import dask
        import dask.array

        rows = self._row_numbers(None)
        num_layers = len(self._layer_numbers(layers))
        keys = self.keys
        blocks = [
            dask.array.from_delayed(
                dask.delayed(_read_block)(self.path, [keys[i] for i in positions], layers),
                shape=(len(positions), num_layers, self.header.dim),
                dtype=np.float32,
            )
            for _, positions in self._by_block(rows)
        ]
        return (
            dask.array.concatenate(blocks) if blocks else dask.array.zeros((0, num_layers, self.header.dim), np.float32)
        )

    def verify(self) -> list[str]:
        """Reads every committed value; one line per damaged block (view, block, rows), none where all is well."""
        problems = []
        everyone = self.keys
        for _, positions in self._by_block(self._row_numbers(None)):
            keys = [everyone[i] for i in positions]
            try:
                self.num_frames(keys)
                self.pooled(keys)
                for layer in self.header.frame_layers:
                    self.frames(keys, layer)
            except CorruptStore as error:
                problems.append(str(error))
        return problems

    # -- writing ---------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator["FeatureStore"]:
        """Holds the right to write; what other writers did meanwhile is seen. May be nested.

        Raises:
            StoreLocked: another process holds it.
        """
        if self._lock_depth:
            yield self
            return
        with exclusive(self.path):
            self._lock_depth += 1
            try:
                commit.sweep(self.path)
                self._group = zarr.open_group(self.path, mode="r+", zarr_format=3)
                self._load_keys()
                yield self
            finally:
                self._lock_depth -= 1

    def append(
        self,
        keys: Sequence[str],
        pooled: np.ndarray,
        num_frames: Sequence[int] | np.ndarray,
        frames: Mapping[str, Sequence[np.ndarray]] | None = None,
    ) -> None:
        """Adds rows, block by block; each block is there whole, or not at all, whenever the process dies.

        A block's values are written and synced first, its keys last.

        Args:
            keys: one per row, none of them in the store.
            pooled: [keys, layers, dim], finite in float32.
            num_frames: valid frames per row.
            frames: for each of the store's frame layers, one array [num_frames, frame_dim] per row.

        Raises:
            StoreError: shapes, names or values are not as above; nothing is written then.
            StoreLocked: another process is writing.
        """
        with self.locked():
            frames = dict(frames or {})
            pooled, counts = self._checked(keys, pooled, num_frames, frames)
            for start in range(0, len(keys), self.header.block_rows):
                part = slice(start, start + self.header.block_rows)
                self._write_block(keys[part], pooled[part], counts[part], {n: v[part] for n, v in frames.items()})

    def _write_block(self, keys, pooled, num_frames, frames) -> None:
        size = self.header.block_rows
        block = 1 + max(self._rows.values(), default=-1) // size
        for name in ("pooled", "num_frames", "key"):  # the key's length counts, so it grows last
            array = self._group[name]
            if array.shape[0] < (block + 1) * size:
                array.resize(((block + 1) * size, *array.shape[1:]))
        rows = slice(block * size, (block + 1) * size)
        # Whole shards are written, so that nothing a killed writer left in this block survives in it.
        self._group["pooled"][rows] = _padded(pooled, size, np.nan)
        self._group["num_frames"][rows] = _padded(num_frames, size, -1)
        written = [self._group["pooled"], self._group["num_frames"]]
        files = [file for array in written for file in commit.files_of(self.path, array, block)]
        for layer, values in frames.items():
            array = layout.create_frames(self._group, layer, block, int(num_frames.sum()), self.header.frame_dim)
            if num_frames.sum():
                array[:] = np.concatenate(values)
            files += commit.files_of(self.path, array)
        commit.sync(self.path, files)
        self._group["key"][rows] = _padded(layout.encode_keys(keys), size, 0)
        commit.sync(self.path, commit.files_of(self.path, self._group["key"], block))
        self._rows.update((key, rows.start + i) for i, key in enumerate(keys))

    def _checked(self, keys, pooled, num_frames, frames) -> tuple[np.ndarray, np.ndarray]:
        """The values as they will be stored, once everything that could be wrong with them has been ruled out."""
        try:
            layout.encode_keys(keys)
        except ValueError as error:
            raise StoreError(f"{self.path}: {error}") from error
        if len(set(keys)) < len(keys) or len(self.missing(keys)) < len(keys):
            raise StoreError(
                f"{self.path}: a key is given twice or is in the store already; append only `missing(keys)`"
            )
        expected = (len(keys), len(self.layer_names), self.header.dim)
        if np.shape(pooled) != expected:
            raise StoreError(f"{self.path}: expected pooled values of shape {expected}, got {np.shape(pooled)}")
        counts = np.asarray(num_frames)
        if counts.shape != (len(keys),) or (counts < 0).any():
            raise StoreError(f"{self.path}: expected one frame count per key, got {counts.shape}")
        if set(frames) != set(self.header.frame_layers):
            raise StoreError(
                f"{self.path}: expected frames of layers {list(self.header.frame_layers)}, got {sorted(frames)}"
            )
        for layer, values in frames.items():
            if [np.shape(v) for v in values] != [(n, self.header.frame_dim) for n in counts]:
                raise StoreError(
                    f"{self.path}: frames of layer {layer} do not fit the frame counts or width {self.header.frame_dim}"
                )
        with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused just below
            pooled = np.asarray(pooled).astype(np.float32, copy=False)
            frames.update(
                {layer: [np.asarray(v).astype(np.float32, copy=False) for v in frames[layer]] for layer in frames}
            )
        bad = [key for i, key in enumerate(keys) if not _finite(pooled[i], *(v[i] for v in frames.values()))]
        if bad:
            raise StoreError(
                f"{self.path}: values that are not finite in float32 for {len(bad)} keys, the first {bad[0]!r}"
            )
        return pooled, counts.astype(np.int32)

    # -- rows and blocks -------------------------------------------------------------------------------------------

    def _load_keys(self) -> None:
        try:
            codes = self._group["key"][:]
        except Exception as error:
            raise CorruptStore(
                f"{self.path}: the keys cannot be read ({error}); restore the store with `dvc checkout`"
            ) from error
        self._rows = {key: row for row, key in enumerate(layout.decode_keys(codes)) if key}

    def _row_numbers(self, keys: Sequence[str] | None) -> np.ndarray:
        if keys is None:
            return np.fromiter(self._rows.values(), np.int64, len(self._rows))
        absent = self.missing(keys)
        if absent:
            raise StoreError(
                f"{self.path}: {len(absent)} of {len(keys)} utterances have no row, the first {absent[0]!r}; "
                f"run `strata extract {self.path.stem}`"
            )
        return np.fromiter((self._rows[key] for key in keys), np.int64, len(keys))

    def _layer_numbers(self, layers: Sequence[str] | None) -> np.ndarray:
        names = self.layer_names
        unknown = [layer for layer in layers or () if layer not in names]
        if unknown:
            raise StoreError(f"{self.path}: no layer {unknown[0]!r}; it has {', '.join(names)}")
        return np.arange(len(names)) if layers is None else np.array([names.index(layer) for layer in layers], np.int64)

    def _by_block(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(block, positions within `rows`), the blocks in ascending order."""
        blocks = rows // self.header.block_rows
        order = np.argsort(blocks, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(blocks[order])) + 1) if len(order) else ():
            yield int(blocks[part[0]]), part

    def _read_counts(self, block: int, rows: np.ndarray) -> np.ndarray:
        start = block * self.header.block_rows
        try:
            counts = self._group["num_frames"][start : start + self.header.block_rows]
        except Exception as error:  # a checksum, a truncated shard, a missing file: Zarr has no common class for them
            raise self._corrupt(block, rows, f"num_frames: {error}") from error
        return counts[rows - start]

    def _read_frames(self, layer: str, block: int, span: slice) -> np.ndarray:
        try:
            return self._group[layout.frames_name(layer, block)][span]
        except Exception as error:
            raise self._corrupt(
                block, np.array([block * self.header.block_rows]), f"frames of layer {layer}: {error}"
            ) from error

    def _frame_ends(self, block: int) -> np.ndarray:
        start = block * self.header.block_rows
        counts = self._read_counts(block, np.arange(start, start + self.header.block_rows))
        return np.cumsum(np.maximum(counts, 0))

    def _corrupt(self, block: int, rows: np.ndarray, what: str) -> CorruptStore:
        return CorruptStore(
            f"{self.path}: view {self.path.stem}, block {block}, rows {rows.min()} to {rows.max()}: {what}; "
            "restore the store with `dvc checkout`, or remove it with `strata store drop` and extract again"
        )


def _read_block(path: Path, keys: Sequence[str], layers: Sequence[str] | None) -> np.ndarray:
    return FeatureStore.open(path).pooled(keys, layers)


def _slice_if_contiguous(numbers: np.ndarray) -> slice | np.ndarray:
    """A slice where that says the same: Zarr reads it without indexing every element."""
    first = int(numbers[0]) if len(numbers) else 0
    contiguous = np.array_equal(numbers, np.arange(first, first + len(numbers)))
    return slice(first, first + len(numbers)) if contiguous else numbers


def _padded(values: np.ndarray, length: int, fill: int | float) -> np.ndarray:
    padded = np.full((length, *values.shape[1:]), fill, values.dtype)
    padded[: len(values)] = values
    return padded


def _finite(*arrays: np.ndarray) -> bool:
    return all(np.isfinite(array).all() for array in arrays)


def _jsonable(mapping: Mapping[str, object]) -> dict:
    """The mapping as it comes back from JSON (tuples as lists), so that stored and wanted compare equal."""
    return json.loads(json.dumps(dict(mapping)))
