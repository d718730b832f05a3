"""A store of fewer layers in the place of a wide one: its rows are copied, none is computed again.

    features/wavlm.zarr.tmp    grows block by block, a copy of the layers that stay
    wide/wavlm.zarr            then the wide store moves here, by one rename,
    features/wavlm.zarr        and the copy moves into its place, by another

Nothing is removed but a copy of something else that an earlier call left unfinished. Killed at any instant, the wide
store is whole at one of its two places, and the same call goes on from there. Knows no model: that a model which is cut
gives the very same values of the layers that stay is for the caller to know, who brings the fingerprints of both.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from strata.store.errors import StoreError
from strata.store.feature_store import FeatureStore
from strata.store.layout import default_block_rows
from strata.store.local import sync_folder
from strata.store.lock import exclusive
from strata.store.parts import check_room, parts, row_bytes

PART_BYTES = 2**27
"""Values held at a time; one utterance whose frames are larger is still read whole."""
Progress = Callable[[int, int], object]
"""Called with the rows done and the rows in all."""


def narrow(
    path: Path,
    wide: Path,
    *,
    before: Mapping[str, object],
    after: Mapping[str, object],
    layers: Sequence[str],
    frame_layers: Sequence[str] = (),
    progress: Progress = lambda done, rows: None,
) -> FeatureStore:
    """Makes the store at `path` one of some of its layers, and keeps it as it was at `wide`.

    Keys, their order, frame counts and the values of the layers that stay are those of the wide store, bit for bit.
    Both places are locked meanwhile.

    Args:
        path: of the store; it may be at `wide` already, where a call before this one was killed.
        wide: must be free, and on the same disk.
        before: fingerprint of the wide store.
        after: fingerprint that the narrow one gets. A store at `path` that has it is returned as it is.
        layers: names of the layers that stay, in their new order.
        frame_layers: those whose frames stay too.
        progress: told of every part that is copied.

    Raises:
        StoreError: there is no such store, `wide` is taken or on another disk, a layer or its frames are not there, or
            the disk is too small. Nothing has moved then.
        FingerprintMismatch: the store holds other values than those of `before`.
        CorruptStore: a value is not what was committed; nothing has moved.
        StoreLocked: another process is writing to either.
    """
    copy = path.with_name(f"{path.name}.tmp")
    with exclusive(path), exclusive(wide):
        if FeatureStore.exists(path) and FeatureStore.open(path).holds(after):
            return FeatureStore.open(path)
        source = FeatureStore.open(wide if FeatureStore.exists(wide) and not FeatureStore.exists(path) else path)
        source.check(before)
        if source.path == path:
            _check_move(path, wide)
        _fill(_opened(copy, source, after, layers, frame_layers), source, progress)
        copy.with_suffix(".lock").unlink(missing_ok=True)
        if source.path == path:
            _move(path, wide)
        _move(copy, path)
    return FeatureStore.open(path)


def _check_move(path: Path, wide: Path) -> None:
    if wide.exists():
        raise StoreError(
            f"{wide} is there already, of an earlier narrowing, and {path} would be moved to it; "
            "remove it, or move it elsewhere"
        )
    if path.is_symlink():
        raise StoreError(f"{path} is a link, and a store is moved by renaming it; put {path.resolve()} itself there")
    if path.parent.stat().st_dev != wide.parent.stat().st_dev:
        raise StoreError(
            f"{path} and {wide.parent} lie on different disks, and a store is moved by renaming it; "
            f"make {wide.parent} a link to a folder on the disk of the store"
        )


def _opened(
    copy: Path,
    source: FeatureStore,
    fingerprint: Mapping[str, object],
    layers: Sequence[str],
    frame_layers: Sequence[str],
) -> FeatureStore:
    """The copy as an earlier call left it, or a new one."""
    header = source.header
    if absent := [name for name in layers if name not in header.layer_names]:
        there = ", ".join(map(repr, header.layer_names))
        raise StoreError(f"{source.place}: no layer {absent[0]!r}; it has {there}")
    if absent := [name for name in frame_layers if name not in header.frame_layers]:
        kept = ", ".join(header.frame_layers) or "none"
        raise StoreError(f"{source.place}: no frames of layer {absent[0]!r} were kept (kept: {kept})")
    wanted = {
        "layer_names": list(layers),
        "frame_layers": list(frame_layers),
        "dim": header.dim,
        "frame_dim": header.frame_dim,
        "frame_rate_hz": header.frame_rate_hz,
    }
    if FeatureStore.exists(copy):
        found = FeatureStore.open(copy)
        if found.holds(fingerprint) and all(getattr(found.header, name) == value for name, value in wanted.items()):
            return found
    shutil.rmtree(copy, ignore_errors=True)  # of other layers, or not even begun
    return FeatureStore.create(copy, fingerprint=fingerprint, block_rows=_block_rows(source, wanted), **wanted)


def _block_rows(source: FeatureStore, wanted: Mapping) -> int:
    """As an extraction would choose them, from the mean row and the mean duration."""
    counts, rate = source.num_frames(), source.header.frame_rate_hz
    mean = float(counts.mean()) if len(counts) else 0.0
    pooled, frame = len(wanted["layer_names"]) * wanted["dim"], len(wanted["frame_layers"]) * wanted["frame_dim"]
    return default_block_rows(4 * (pooled + frame * mean), mean / rate if rate else 0.0)


def _fill(copy: FeatureStore, source: FeatureStore, progress: Progress) -> None:
    """Copies the rows that are lacking, in their order."""
    with copy.locked():
        for name, values in source.notes.items():
            copy.note(name, values)
        keys = copy.missing(source.keys)
        counts = source.num_frames(keys)
        sizes = row_bytes(copy.header, counts)
        check_room(copy.path, int(sizes.sum()))
        for part in parts(sizes, copy.header.block_rows, PART_BYTES):
            frames = {layer: source.frames(keys[part], layer) for layer in copy.header.frame_layers}
            copy.append(keys[part], source.pooled(keys[part], copy.layer_names), counts[part], frames)
            progress(part.stop, len(keys))


def _move(place: Path, target: Path) -> None:
    """Renames a store; returns when that survives a power cut."""
    os.rename(place, target)
    for folder in {place.parent, target.parent}:
        sync_folder(folder)
