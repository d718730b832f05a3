"""Making a block durable: its files are on the disk before its key is.

Zarr's local store renames whole files into place, so a killed process leaves either the old file or the new one, and
perhaps a `*.partial` one. It never asks the disk to write, so after a power cut a key could outlive its values: hence
the syncs here, in the one order that keeps "a row exists when its key is there" true.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import zarr


def sync(store: Path, paths: Iterable[Path]) -> None:
    """Forces files of a store, and every directory on the way to them, to the disk."""
    directories = {store}
    for path in paths:
        _fsync(path)
        directories.update(parent for parent in path.parents if store in parent.parents)
    for directory in directories:
        _fsync(directory)


def files_of(store: Path, array: zarr.Array, block: int | None = None) -> list[Path]:
    """The files of one block of an array (of all of it where `block` is None), its metadata included."""
    folder = store / array.path
    pattern = "c/**/*" if block is None else f"c/{block}" if array.ndim == 1 else f"c/{block}/**/*"
    return [folder / "zarr.json", *(path for path in folder.glob(pattern) if path.is_file())]


def sweep(store: Path) -> None:
    """Removes the half-written files that a killed writer left; call it only while holding the lock."""
    for path in store.rglob("*.partial"):
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
