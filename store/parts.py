"""The rows of a whole store in parts of bounded size: for whoever copies them elsewhere. Does no I/O but to ask a disk
how much room it has."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from strata.store.errors import StoreError
from strata.store.layout import Header


def row_bytes(header: Header, counts: np.ndarray) -> np.ndarray:
    """Bytes of the values of each row, all kept layers' frames included.

    Args:
        header: of the store.
        counts: int [rows], frames of each row.
    """
    pooled, frame = len(header.layer_names) * header.dim, len(header.frame_layers) * header.frame_dim
    return 4 * (pooled + frame * counts.astype(np.int64))


def parts(sizes: np.ndarray, most_rows: int, most_bytes: int) -> Iterator[slice]:
    """Neighbouring rows, of sizes in bytes [rows], up to so many of them or so many bytes; at least one row."""
    start = 0
    while start < len(sizes):
        fitting = np.searchsorted(np.cumsum(sizes[start : start + most_rows]), most_bytes, side="right")
        part = slice(start, start + max(1, int(fitting)))
        yield part
        start = part.stop


def check_room(target: Path, needed: int) -> None:
    """Raises StoreError unless the disk of `target`'s folder has so many bytes free."""
    free = shutil.disk_usage(target.absolute().parent).free
    if free < needed:
        raise StoreError(f"{target} needs {needed / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB free; make room")
