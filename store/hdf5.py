"""A store as one HDF5 file and back: for MATLAB, for plain h5py, for carrying values to another machine.

It meets the store only as `FeatureStore`, and knows nothing of Zarr, of models or of tasks. The file:

    attributes      format, format_version, fingerprint (JSON), dim, frame_dim, frame_rate_hz, block_rows, header_crc32
    layer_names     UTF-8   [layers]
    frame_layers    UTF-8   [kept layers]
    key             UTF-8   [rows]
    pooled          float32 [rows, layers, dim]   in chunks of one layer, which reads at the cost of one layer
    num_frames      int32   [rows]
    frames/<layer>  float32 [frames, frame_dim]   of each kept layer, the rows one after the other
    frames_start    int64   [rows]                each row's first frame, counted from 0; only where frames were kept
    crc32           uint32  [rows]                zlib.crc32 over key, num_frames, pooled, frames of each kept layer
    notes           UTF-8   [1]                   JSON: how rows came about; no value is read by it

In plain h5py, layer 9 is `file["pooled"][:, 9]` and the keys are `file["key"].asstr()[:]`. MATLAB reverses the axes and
counts from 1: `h5read("wavlm.h5", "/pooled", [1 10 1], [Inf 1 Inf])`, and the frames of row i are
`h5read("wavlm.h5", "/frames/9", [1 frames_start(i)+1], [Inf num_frames(i)])`.

The file is what HDF5 1.8 can read (older MATLABs know no other): fixed-length strings, no filter but Fletcher-32. That
version checks its headers and, by Fletcher-32, each chunk, but not the index that says where a chunk is: a bit flipped
there makes values read as absent, without an error, or crashes HDF5. Hence a CRC of the header and of every row, which
the import demands, and a look at the index before anything is read by it.
"""

import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import h5py
import numpy as np

from strata.store.errors import StoreError
from strata.store.feature_store import FeatureStore
from strata.store.hdf5_disk import Disk
from strata.store.local import sync_folder
from strata.store.parts import check_room, parts, row_bytes

FORMAT = "strata features"
FORMAT_VERSION = 1
CHUNK_BYTES = 2**18
CHECKSUM_BYTES = 4
"""What Fletcher-32 adds to a chunk."""
PART_BYTES = 2**27
"""Values held at a time; one utterance whose frames are larger is still read whole."""
CACHE_BYTES = 2**25
"""HDF5's cache of chunks per dataset: neighbouring parts share a chunk of each layer."""
Progress = Callable[[int, int], object]
"""Called with the rows done and the rows in all."""


def write(store: FeatureStore, file: str | Path, progress: Progress = lambda done, rows: None) -> None:
    """Exports all rows, in their order; the file is there whole or not at all.

    Args:
        store: its values are read in parts of bounded size.
        file: must not exist; its folder is made.
        progress: told of every part that is written.

    Raises:
        StoreError: the file exists, the disk is too small, or it could not be written.
        CorruptStore: a value of the store is not what was committed.
    """
    file = Path(file)
    _refuse_existing(file)
    keys = store.keys
    counts = store.num_frames(keys)
    sizes = row_bytes(store.header, counts)
    file.parent.mkdir(parents=True, exist_ok=True)
    check_room(file, int(sizes.sum()))
    unfinished = file.with_name(f"{file.name}.{uuid4().hex[:8]}.tmp")
    try:
        with Disk(unfinished, "x+") as disk, disk.failing_first():
            with h5py.File(disk, "w", libver=("v108", "v108"), rdcc_nbytes=CACHE_BYTES) as target:
                datasets = _write_layout(target, _header(store), keys, counts, store.notes)
                starts = _starts(counts)
                for part in parts(sizes, store.header.block_rows, PART_BYTES):
                    _write_part(datasets, store, keys[part], counts[part], part.start, int(starts[part.start]))
                    disk.check()
                    progress(part.stop, len(keys))
            os.fsync(disk.fileno())
        _refuse_existing(file)
        unfinished.rename(file)
        sync_folder(file.parent)
    except OSError as error:
        raise StoreError(
            f"{file} could not be written ({error.strerror or error}); nothing was left behind; "
            "make room, or name another file"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def read(file: str | Path, path: str | Path, progress: Progress = lambda done, rows: None) -> FeatureStore:
    """Imports the rows of a file that `write` made and that the store lacks; stores of two machines become one.

    Rows are committed block by block, so those before a damaged one are in the store, and an import that is repeated
    goes on behind them. A store that was made for this and got no row is removed again.

    Args:
        file: the export.
        path: a store of the same fingerprint and layout, or none yet.
        progress: told of every part that is committed; its rows are those that the store lacked.

    Raises:
        StoreError: the file is no such export, is cut short or damaged; the store is laid out differently.
        FingerprintMismatch: the store holds values of another model or preprocessing.
        StoreLocked: another process is writing to the store.
    """
    file, path = Path(file), Path(path)
    if not file.is_file():
        raise StoreError(f"no file {file}: write one with `strata store export`")
    unreadable = f"{file}: expected a whole file of `strata store export`, found one that cannot be read"
    with _as_store_error(unreadable, "copy or export it again"):
        source = h5py.File(file, "r", rdcc_nbytes=CACHE_BYTES)
    with source:
        with _as_store_error(unreadable, "copy or export it again"):
            export = _Export(source)
        created = not FeatureStore.exists(path)
        store = FeatureStore.create(path, **export.header) if created else FeatureStore.open(path)
        store.check(export.header["fingerprint"])
        export.check_layout(store)
        with store.locked():
            try:
                for name, values in export.notes.items():
                    store.note(name, values)
                _append_missing(store, export, progress)
            except BaseException:
                if created and not len(store):
                    shutil.rmtree(path)
                raise
    return store


# -- export ------------------------------------------------------------------------------------------------------------


def _write_layout(target, header: dict, keys: Sequence[str], counts: np.ndarray, notes: dict) -> dict:
    """Everything but the values of the rows; the datasets that take those, by name.

    They stay open till the end, and with them HDF5's cache of the chunks that two parts share.
    """
    for name, text in {"format": FORMAT, "fingerprint": json.dumps(header["fingerprint"])}.items():
        target.attrs.create(name, text.encode(), dtype=h5py.string_dtype("utf-8", len(text.encode())))
    target.attrs["format_version"] = np.int32(FORMAT_VERSION)
    target.attrs["frame_rate_hz"] = np.float64(header["frame_rate_hz"])
    for name in ("dim", "frame_dim", "block_rows"):
        target.attrs[name] = np.int64(header[name])
    target.attrs["header_crc32"] = np.uint32(_header_crc(header))
    layers, kept, rows, starts = header["layer_names"], header["frame_layers"], len(keys), _starts(counts)
    for name, texts in {
        "layer_names": layers,
        "frame_layers": kept,
        "key": keys,
        "notes": [json.dumps(notes)],
    }.items():
        values = _encoded(texts)
        _dataset(target, name, values.shape, values.dtype)[...] = values
    _dataset(target, "num_frames", (rows,), "<i4", -1)[...] = counts
    if kept:
        _dataset(target, "frames_start", (rows,), "<i8", -1)[...] = starts[:-1]
    shapes = {_frames_name(layer): (int(starts[-1]), header["frame_dim"]) for layer in kept}
    shapes["pooled"] = (rows, len(layers), header["dim"])
    return {
        "crc32": _dataset(target, "crc32", (rows,), "<u4"),
        **{name: _dataset(target, name, shape, "<f4", np.nan) for name, shape in shapes.items()},
    }


def _write_part(
    datasets: dict, store: FeatureStore, keys: Sequence[str], counts: np.ndarray, row: int, frame: int
) -> None:
    """The values of some rows, from this row and this frame on."""
    pooled, rows = store.pooled(keys), slice(row, row + len(keys))
    datasets["pooled"][rows] = pooled
    crcs = _crcs(keys, counts, pooled)
    for layer in store.header.frame_layers:
        frames = store.frames(keys, layer)
        crcs = _continued(crcs, frames)
        if counts.any():
            datasets[_frames_name(layer)][frame : frame + int(counts.sum())] = np.concatenate(frames)
    datasets["crc32"][rows] = crcs


def _dataset(target, name: str, shape: tuple[int, ...], dtype, fill: int | float | None = None):
    """Chunks of one layer (where there are three axes), each with its checksum; what is empty has neither."""
    if 0 in shape:
        return target.create_dataset(name, shape, dtype)
    cell = (1, shape[2]) if len(shape) == 3 else shape[1:]
    rows = CHUNK_BYTES // (np.dtype(dtype).itemsize * int(np.prod(cell)))
    chunks = (max(1, min(rows, shape[0])), *cell)
    return target.create_dataset(name, shape, dtype, chunks=chunks, fletcher32=True, fillvalue=fill)


def _frames_name(layer: str) -> str:
    if "/" in layer or layer in ("", "."):
        raise StoreError(f"HDF5 has no place for frames of a layer named {layer!r}; give the layer another name")
    return f"frames/{layer}"


def _encoded(texts: Sequence[str]) -> np.ndarray:
    """Fixed-length UTF-8, padded with zeros: strings of variable length would lie outside all checksums."""
    codes = [text.encode() for text in texts]
    return np.array(codes, h5py.string_dtype("utf-8", max(map(len, codes), default=1)))


# -- import ------------------------------------------------------------------------------------------------------------


class _Export:
    """An opened file whose header, names and shapes fit together; its values are checked as they are read."""

    def __init__(self, source):
        attributes = source.attrs
        self.file = Path(source.filename)
        found = (_text(attributes.get("format", "none")), int(attributes.get("format_version", 0)))
        if found != (FORMAT, FORMAT_VERSION):
            raise StoreError(
                f"{self.file}: expected an export of format {FORMAT!r} {FORMAT_VERSION}, "
                f"found {found[0]!r} {found[1]}; write one with `strata store export`"
            )
        self.header = {
            "fingerprint": json.loads(_text(attributes["fingerprint"])),
            "layer_names": _texts(_opened(source, "layer_names")),
            "frame_layers": _texts(_opened(source, "frame_layers")),
            "frame_rate_hz": float(attributes["frame_rate_hz"]),
            **{name: int(attributes[name]) for name in ("dim", "frame_dim", "block_rows")},
        }
        if _header_crc(self.header) != int(attributes["header_crc32"]):
            raise ValueError("the CRC-32 of the header does not match")
        self.keys = _texts(_opened(source, "key"))
        self.counts, self.crcs = (_opened(source, name)[...] for name in ("num_frames", "crc32"))
        self.starts = _starts(self.counts)
        self.notes = _notes(source)
        self._values = self._checked_values(source)

    def _checked_values(self, source) -> dict:
        """The datasets of the rows' values, held open for HDF5's cache of the chunks that two parts share."""
        header, rows = self.header, len(self.keys)
        expected = {
            "pooled": (rows, len(header["layer_names"]), header["dim"]),
            "num_frames": (rows,),
            "crc32": (rows,),
            **{_frames_name(layer): (int(self.starts[-1]), header["frame_dim"]) for layer in header["frame_layers"]},
        }
        values = {name: _opened(source, name) for name in expected}
        for name, shape in expected.items():
            if values[name].shape != shape:
                raise ValueError(f"{name}: expected the shape {shape}, found {values[name].shape}")
        if len(set(self.keys)) < rows or (self.counts < 0).any():
            raise ValueError("a key is there twice, or a row has no frame count")
        if header["frame_layers"] and not np.array_equal(_opened(source, "frames_start")[...], self.starts[:-1]):
            raise ValueError("frames_start does not fit num_frames")
        return values

    def check_layout(self, store: FeatureStore) -> None:
        """Raises StoreError, naming the fields, unless the store has a place for every value of the file."""
        own = ("fingerprint", "block_rows")  # the one was checked, the other is each store's own affair
        pairs = [(name, there, self.header[name]) for name, there in _header(store).items() if name not in own]
        differing = [f"{name}: {there} there, {mine} in it" for name, there, mine in pairs if there != mine]
        if differing:
            raise StoreError(
                f"{store.path} is laid out unlike {self.file} ({'; '.join(differing)}); import it to another path"
            )

    def rows(self, rows: np.ndarray) -> dict:
        """What `FeatureStore.append` takes, of ascending row numbers."""
        header, runs = self.header, np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
        keys, counts = [self.keys[row] for row in rows], self.counts[rows]
        with _as_store_error(
            f"{self.file}: damaged in rows {rows[0]} to {rows[-1]}",
            "copy or export it again and repeat the import, which goes on behind the rows that it committed",
        ):
            spans = [slice(int(run[0]), int(run[-1]) + 1) for run in runs]
            pooled = np.concatenate([self._values["pooled"][span] for span in spans])
            crcs = _crcs(keys, counts, pooled)
            spans = [slice(int(self.starts[span.start]), int(self.starts[span.stop])) for span in spans]
            frames = {}
            for layer in header["frame_layers"]:
                values = np.concatenate([self._values[_frames_name(layer)][span] for span in spans])
                frames[layer] = np.split(values, np.cumsum(counts)[:-1])
                crcs = _continued(crcs, frames[layer])
            wrong = rows[crcs != self.crcs[rows]]
            if len(wrong):
                raise ValueError(f"the CRC-32 of row {wrong[0]} does not match")
        return {"keys": keys, "pooled": pooled, "num_frames": counts, "frames": frames}


def _append_missing(store: FeatureStore, export: _Export, progress: Progress) -> None:
    absent = set(store.missing(export.keys))
    rows = np.array([row for row, key in enumerate(export.keys) if key in absent], np.int64)
    sizes = row_bytes(store.header, export.counts[rows])
    check_room(store.path, int(sizes.sum()))
    for part in parts(sizes, store.header.block_rows, PART_BYTES):
        store.append(**export.rows(rows[part]))
        progress(part.stop, len(rows))


def _opened(source, name: str):
    """A dataset, once its index has been found to speak of whole chunks: a wrong size there makes HDF5 itself crash."""
    dataset, wrong = source[name], []
    if dataset.chunks:
        whole = (dataset.dtype.itemsize * int(np.prod(dataset.chunks)) + CHECKSUM_BYTES, 0)  # size, filters left out
        dataset.id.chunk_iter(lambda found: wrong.append(found) if (found.size, found.filter_mask) != whole else None)
    if wrong:
        raise ValueError(f"{name}: the index of its chunks is damaged")
    return dataset


def _texts(dataset) -> list[str]:
    return dataset.asstr()[...].tolist()


def _notes(source) -> dict[str, list[str]]:
    """None in the files of earlier versions, and where they are damaged: no value depends on them."""
    try:
        found = json.loads(_texts(_opened(source, "notes"))[0])
        return {str(name): list(map(str, values)) for name, values in found.items()}
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return {}


def _text(attribute: str | bytes) -> str:
    return attribute.decode() if isinstance(attribute, bytes) else attribute


# -- both --------------------------------------------------------------------------------------------------------------


def _starts(counts: np.ndarray) -> np.ndarray:
    """Where the frames of each row begin, and where all end: int64 [rows + 1]."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _header(store: FeatureStore) -> dict:
    """What `FeatureStore.create` takes, in JSON's types."""
    header = store.header
    return {
        "fingerprint": dict(header.fingerprint),
        "layer_names": list(header.layer_names),
        "frame_layers": list(header.frame_layers),
        "frame_rate_hz": float(header.frame_rate_hz),
        **{name: int(getattr(header, name)) for name in ("dim", "frame_dim", "block_rows")},
    }


def _header_crc(header: dict) -> int:
    return zlib.crc32(json.dumps(header, sort_keys=True).encode())


def _crcs(keys: Sequence[str], counts: np.ndarray, pooled: np.ndarray) -> np.ndarray:
    crcs = np.array([zlib.crc32(key.encode()) for key in keys], np.uint32)
    return _continued(_continued(crcs, counts.reshape(-1, 1)), pooled)


def _continued(crcs: np.ndarray, values: Iterable[np.ndarray]) -> np.ndarray:
    """The CRC-32 of each row with one more array, as little-endian bytes, behind it."""
    little = (np.ascontiguousarray(value, value.dtype.newbyteorder("<")) for value in values)
    return np.array([zlib.crc32(value, int(crc)) for crc, value in zip(crcs, little, strict=True)], np.uint32)


def _refuse_existing(file: Path) -> None:
    if file.exists():
        raise StoreError(f"{file} is there already: remove it, or name another file")


@contextmanager
def _as_store_error(what: str, next_step: str) -> Iterator[None]:
    """HDF5 tells of foreign files and broken bytes by whatever class is at hand; here it is one, in one line."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"{what} ({' '.join(str(error).split())}); {next_step}") from error
