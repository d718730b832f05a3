"""Rows that are computed before their block is whole: what a run that was stopped has done so far, beside its store.

    features/wavlm.journal-<identity>.tmp/
      plan.json      the blocks that the run fills, each as the list of its keys
      key/c/<n>/0 …  an entry: some rows of one of them, written as a block of their own
      note/<n>       what was noted of how these came about; not there where nothing was

An entry's keys come last, and all of it is checked when it is read: one that is cut short is not there, one that is
damaged is computed anew. Nobody reads rows from here but who fills their block, and whoever has committed that removes
them. `identity` follows from fingerprint, layers and widths: rows of another view are never taken.

Entries have random numbers, so that any number of writers, and those who only seemed dead, meet nowhere. The plan sees
to it that a run which goes on makes the very blocks that it would have made. The folder's name ends as those that DVC
leaves alone, and lies beside the store itself where that is a link. Knows no audio and no study.
"""

import glob
import hashlib
import json
import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from strata.store import blocks, layout
from strata.store.blocks import Rows
from strata.store.layout import Header
from strata.store.local import LocalStorage
from strata.store.opening import committed, read_or_nothing, storage_of
from strata.store.shards import CHECKSUM_BYTES, Damaged, chunk_bytes, read_array
from strata.store.storage import Storage

PLAN = "plan.json"


class Journal:
    """The rows that wait beside one store. Needs no lock, but that of the store for `begin`, `forget` and `clear`."""

    def __init__(self, storage: Storage, header: Header):
        """That of the store with this storage and header; writes nothing."""
        described = asdict(header)
        for name in ("format", "block_rows"):  # neither is seen in a row
            del described[name]
        identity = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=8).hexdigest()
        self._stem = _stem(storage.place)
        self._storage = storage_of(f"{self._stem}-{identity}.tmp")
        self._header = header
        self._keys: dict[int, list[str]] = {}  # of entries that have been looked at: they never change

    @property
    def place(self) -> str:
        """Where it lies, for messages."""
        return self._storage.place

    @property
    def plan(self) -> list[list[str]]:
        """The blocks that were planned, each by its keys; none where no run was stopped."""
        try:
            found = json.loads(read_or_nothing(self._storage, PLAN) or b"[]")
        except ValueError:
            return []  # it costs no row, only that blocks are cut elsewhere
        return found if _is_plan(found) else []

    def begin(self, plan: Sequence[Sequence[str]]) -> None:
        """Keeps what a run is going to fill."""
        wanted = [list(keys) for keys in plan]
        if wanted != self.plan:
            self._storage.write(PLAN, [json.dumps(wanted).encode()])
            self._storage.flush()

    def add(self, rows: Rows, notes: Collection[str] = ()) -> None:
        """Keeps rows; returns when they survive a power cut.

        Args:
            rows: some of a block's.
            notes: of how they came about; they come back with the rows.

        Raises:
            ValueError: they do not fit the store, or are not finite.
            NoRoom: the disk is full.
        """
        number, header = secrets.randbits(48), replace(self._header, block_rows=len(rows.keys))
        rows = blocks.checked(header, rows)
        if notes:
            noted = np.frombuffer(json.dumps(sorted(notes)).encode(), np.uint8)
            self._storage.write(_note_file(number), [chunk_bytes(noted)])
        blocks.write_values(self._storage, header, number, rows)
        blocks.write_keys(self._storage, header, number, rows.keys)

    @property
    def keys(self) -> set[str]:
        """Of all rows that are kept."""
        return {key for _, keys in self._entries() for key in keys}

    def rows(self, keys: Collection[str]) -> Iterator[tuple[Rows, list[str]]]:
        """Those of `keys` that are kept and sound, part by part, each key once; with each part its notes."""
        wanted = set(keys)
        for number, held in self._entries():
            within = np.array([row for row, key in enumerate(held) if key in wanted], np.int64)
            if not len(within):
                continue
            header = replace(self._header, block_rows=len(held))
            try:
                found = blocks.read_rows(self._storage, header, number, [held[row] for row in within], within)
                found, notes = blocks.checked(header, found), self._notes(number)
            except (Damaged, ValueError):
                continue
            wanted -= set(found.keys)
            yield found, notes

    def forget(self, keys: Collection[str]) -> None:
        """Removes the entries that hold none but these keys, which have been committed."""
        done = set(keys)
        for number, held in self._entries():
            if done.issuperset(held):
                header = replace(self._header, block_rows=len(held))
                blocks.remove(self._storage, [*layout.block_files(header, number), _note_file(number)])
                del self._keys[number]

    def clear(self) -> None:
        """Removes all of it: what it kept is committed."""
        self._storage.discard()
        self._keys.clear()

    def clear_others(self) -> int:
        """Removes what waits beside the store under other identities, for its layers have changed since, say; how many
        journals that were. None beside a store in a bucket."""
        others = [] if "://" in self._stem else [place for place in _folders(self._stem) if str(place) != self.place]
        for folder in others:
            LocalStorage(folder).discard()
        return len(others)

    def _notes(self, number: int) -> list[str]:
        """Of an entry.

        Raises:
            Damaged: they are not what was written.
        """
        name = _note_file(number)
        try:
            size = self._storage.size(name) - CHECKSUM_BYTES
        except FileNotFoundError:
            return []
        return json.loads(read_array(self._storage, name, (size,), "uint8").tobytes())

    def _entries(self) -> Iterator[tuple[int, list[str]]]:
        """Number and keys of every whole entry; one may be removed meanwhile, by whoever has committed its rows."""
        for number in committed(self._storage):
            if number not in self._keys:
                try:
                    size = self._storage.size(layout.key_file(number)) - CHECKSUM_BYTES
                    header = replace(self._header, block_rows=size // layout.KEY_BYTES)
                    self._keys[number] = blocks.read_keys(self._storage, header, number)
                except (Damaged, FileNotFoundError):
                    continue
            yield number, self._keys[number]


def drop(store: Path) -> None:
    """Removes all rows that wait beside the store in a folder, of whatever view."""
    for folder in _folders(_stem(str(store))):
        LocalStorage(folder).discard()


def _folders(stem: str) -> list[Path]:
    """Of all journals of one store."""
    return list(Path(stem).parent.glob(f"{glob.escape(Path(stem).name)}-*.tmp"))


def _note_file(number: int) -> str:
    return f"note/{number}"


def _is_plan(found: object) -> bool:
    """Whether what was read are lists of keys."""
    return isinstance(found, list) and all(
        isinstance(keys, list) and all(isinstance(key, str) for key in keys) for keys in found
    )


def _stem(place: str) -> str:
    """What the name of every journal of a store begins with."""
    place = place.rstrip("/") if "://" in place else str(Path(place).resolve())
    return f"{place.removesuffix('.zarr')}.journal"
