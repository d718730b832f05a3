"""A store as numbered blocks: who may write which, what is committed, what is damaged, and what is left over.

Three rules make a store that any number of processes can write to and that any of them can leave by a crash:

- A block's number is given out once, by whoever holds the lock (`reserve`). So no file has two writers, and what a
  writer of yesterday still writes today meets nobody.
- A number that reaches two processes nevertheless, because a scheduler took one of them for dead, is claimed by one of
  them: the other is turned away (`claim`).
- Only the holder of the lock writes keys (`commit`), after the values are safe. What has no key is swept away under the
  next lock.

Knows blocks, not keys or layers by name; that is `FeatureStore`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from store import blocks, layout
from store.blocks import Rows
from store.errors import CorruptStore, StoreError
from store.local import LocalStorage
from store.shards import Damaged
from store.storage import PARTIAL, Storage


@dataclass(frozen=True)
class Damage:
    """Rows that are not what was committed."""

    block: int
    rows: tuple[int, ...]
    """Row numbers, ascending; all of the block where its keys cannot be read."""
    what: str
    """Which file or layer, and what is wrong with it."""
    of_values: bool = True
    """Whether values are lost; a document can be written again."""


class BlockStore:
    """What `FeatureStore` stands on."""

    def __init__(self, storage: Storage, header: layout.Header):
        self.storage = storage
        self.header = header
        self._lock_depth = 0
        self._num_blocks = 0  # given out so far; known while the lock is held

    @property
    def place(self) -> str:
        """Where the store lies, for messages."""
        return self.storage.place

    @property
    def view(self) -> str:
        """Name of the view whose values these are."""
        return view_name(self.storage)

    # -- writing ---------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator["BlockStore"]:
        """Holds the right to write; what other writers did meanwhile is seen. May be nested.

        What writers that died left behind is removed, and documents that are damaged or of format 1 are written anew.

        Raises:
            StoreLocked: another process holds it.
        """
        if self._lock_depth:
            yield self
            return
        with self.storage.exclusive():
            self._lock_depth += 1
            try:
                self._forget()
                self._sweep()
                self._mend_documents()
                yield self
            finally:
                self._lock_depth -= 1

    def reserve(self) -> int:
        """The number of a block for somebody to write; needs the lock. No number is ever given out twice."""
        self._require_lock()
        grown = layout.documents(self.header, self._num_blocks + 1)
        for name in layout.ARRAYS:
            self.storage.write(name, [grown[name]])
        self.storage.flush()
        self._num_blocks += 1
        return self._num_blocks - 1

    def claim(self, block: int) -> bool:
        """Makes the caller the writer of a reserved block; False if there has been one, who may still be at it.

        Needs no lock: whoever is given a block's number claims it, perhaps on another machine.
        """
        return self.storage.create(layout.claim_file(block))

    def write_block(self, block: int, rows: Rows) -> None:
        """Writes the values of a block that the caller has claimed, for `commit` to confirm; needs no lock.

        Raises:
            StoreError: more rows than a block has, values that do not fit the store or are not finite, or a block that
                was not claimed, or is committed. Nothing is written then.
        """
        if len(rows.keys) > self.header.block_rows:
            raise StoreError(
                f"{self.place}: {len(rows.keys)} rows do not fit a block of {self.header.block_rows}; "
                "a write never crosses from one block into another"
            )
        try:
            rows = blocks.checked(self.header, rows)
        except ValueError as error:
            raise StoreError(f"{self.place}: {error}") from error
        if not there(self.storage, layout.claim_file(block)):
            raise StoreError(f"{self.place}: block {block} was not claimed, or is committed; `claim` it before writing")
        blocks.write_values(self.storage, self.header, block, rows)

    def commit(self, block: int, keys: Sequence[str], num_frames: Sequence[int] | np.ndarray) -> None:
        """Makes a block's rows exist, once `write_block` has returned for them; needs the lock.

        Raises:
            StoreError: the block was not reserved, or its files are not here in full: its writer sees another folder.
        """
        self._require_lock()
        if not 0 <= block < self._num_blocks:
            raise StoreError(f"{self.place}: block {block} was not reserved; there are {self._num_blocks}")
        try:
            blocks.check_sizes(self.storage, self.header, block, len(keys), int(np.sum(num_frames, dtype=np.int64)))
        except Damaged as error:
            raise StoreError(
                f"{self.place}: block {block} is not here as it was written ({error}); "
                "every worker must see the store under the same path"
            ) from error
        blocks.write_keys(self.storage, self.header, block, keys)
        self.storage.remove(layout.claim_file(block))

    def _append(self, rows: Rows) -> None:
        """Reserves, writes and commits as many blocks as the rows need."""
        for start in range(0, len(rows.keys), self.header.block_rows):
            part = rows.part(start, start + self.header.block_rows)
            block = self.reserve()
            self.claim(block)
            self.write_block(block, part)
            self.commit(block, part.keys, part.num_frames)

    # -- damage ----------------------------------------------------------------------------------------------------

    def verify(self) -> list[str]:
        """Reads every committed value; a line for all that is damaged (view, block, rows), none where all is well."""
        return [self.describe(damage) for damage in self.damage()] + self.damaged_documents()

    def damaged_documents(self) -> list[str]:
        """A line for each document that is not what was written; the next writer writes it anew."""
        return [
            f"{self.place}: view {self.view}, all blocks: {name} is not what was written; no value depends on it, "
            f"and `strata extract {self.view}` writes it anew"
            for name in self._damaged_documents()
        ]

    def damage(self, unchanged: Mapping[str, str] | None = None) -> list[Damage]:
        """Reads every value of all committed blocks but those whose signature is still that in `unchanged`."""
        signatures, found = self.signatures() if unchanged else {}, []
        for block in self.committed():
            if unchanged and signatures[str(block)] == unchanged.get(str(block)):
                continue
            try:
                keys = self._keys_of(block)
            except CorruptStore:
                found.append(self._whole(block))
                continue
            rows = np.array([row for row, key in enumerate(keys) if key], np.int64)
            for flaw in blocks.flaws(self.storage, self.header, block, rows):
                found.append(self._damage(block, flaw.rows, flaw.what, flaw.of_values))
        return found

    def signatures(self) -> dict[str, str]:
        """Per committed block, what changes whenever somebody writes one of its files; no file is read."""
        return {
            str(block): ";".join(f"{name}:{self.storage.signature(name)}" for name in names)
            for block, names in self._files_by_block().items()
            if layout.key_file(block) in names
        }

    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(self.storage.size(name) for name in self.storage.names())

    def retire(self, damages: Sequence[Damage]) -> int:
        """Takes rows with damaged values out, so that they have to be computed anew; needs the lock.

        A block with such rows is written again without them, under a new number, and then removed. Where only a
        document is damaged, that is written again.

        Returns:
            Rows that were taken out, those not counted whose keys are lost.
        """
        self._require_lock()
        lost, spoilt = 0, {damage.block for damage in damages if damage.of_values}
        for block in {damage.block for damage in damages} - spoilt:
            blocks.write_frame_documents(self.storage, self.header, block)
        for block in sorted(spoilt):
            first = block * self.header.block_rows
            bad = {row - first for d in damages if d.block == block and d.of_values for row in d.rows}
            try:
                keys = self._keys_of(block)
            except CorruptStore:
                keys = []
            used = [row for row, key in enumerate(keys) if key]
            sound = np.array([row for row in used if row not in bad], np.int64)
            lost += len(used) - len(sound)
            if len(sound):
                kept = [keys[row] for row in sound]
                self._append(blocks.read_rows(self.storage, self.header, block, kept, sound))
            blocks.remove(self.storage, self._files_by_block()[block])
        self.storage.flush()
        self._forget()
        return lost

    # -- inside ----------------------------------------------------------------------------------------------------

    def committed(self) -> list[int]:
        """Numbers of the blocks that have keys."""
        return committed(self.storage)

    def _forget(self) -> None:
        """Called when what is remembered of the blocks may have become wrong."""

    def _require_lock(self) -> None:
        if not self._lock_depth:
            raise StoreError(f"{self.place}: writing needs the lock: `with store.locked(): …`")

    def _keys_of(self, block: int) -> list[str]:
        try:
            return blocks.read_keys(self.storage, self.header, block)
        except Damaged as error:
            raise self._corrupt(self._whole(block, f"key: {error}")) from error

    def _files_by_block(self) -> dict[int, list[str]]:
        files: dict[int, list[str]] = {}
        for name in self.storage.names():
            block = layout.block_of(name)
            if block is not None:
                files.setdefault(block, []).append(name)
        return files

    def _sweep(self) -> None:
        """Removes what killed writers left: blocks without keys, claims, and files that were never put in place."""
        committed = set(self.committed())
        for name in self.storage.names():
            unfinished = layout.block_of(name) is not None and layout.block_of(name) not in committed
            if unfinished or name.endswith((layout.CLAIM, PARTIAL, ".tmp")):  # the last: of a killed `dvc checkout`
                self.storage.remove(name)

    def _mend_documents(self) -> None:
        """Writes anew what is damaged, or of format 1; learns how many blocks were given out."""
        upgrade = self.header.format < layout.FORMAT
        self._num_blocks = max(self._lengths().values())
        damaged = self._damaged_documents()
        if not upgrade and not damaged:
            return
        self.header = layout.upgraded(self.header)
        for block in self.committed() if upgrade else ():
            blocks.write_frame_documents(self.storage, self.header, block)
        for name, document in layout.documents(self.header, self._num_blocks).items():
            if upgrade or name in damaged:
                self.storage.write(name, [document])  # the header comes last: until then the store is of format 1
        self.storage.flush()

    def _lengths(self) -> dict[str, int]:
        """Blocks that each array has room for, and (under '') those that are there."""
        lengths = {"": 1 + max(self.committed(), default=-1)}
        for name in layout.ARRAYS:
            lengths[name] = layout.num_blocks(read_or_nothing(self.storage, name), self.header)
        return lengths

    def _damaged_documents(self) -> list[str]:
        """Names of documents that are not what this code would write. Format 1 was written by other code."""
        if self.header.format < layout.FORMAT:
            return []
        lengths, damaged = self._lengths(), []
        for name in layout.documents(self.header, 0):
            # A process that is killed between them leaves arrays of different lengths: none may be too short.
            length = lengths.get(name, 0)
            wanted = layout.documents(self.header, length)[name]
            if length < (lengths[""] if name in lengths else 0) or read_or_nothing(self.storage, name) != wanted:
                damaged.append(name)
        return damaged

    def _damage(self, block: int, rows: np.ndarray, what: str, of_values: bool = True) -> Damage:
        return Damage(block, tuple((rows + block * self.header.block_rows).tolist()), what, of_values)

    def _whole(self, block: int, what: str = "key: checksum does not match") -> Damage:
        return self._damage(block, np.arange(self.header.block_rows), what)

    def describe(self, damage: Damage) -> str:
        """Where and what, for a person."""
        return f"{self.place}: view {self.view}, block {damage.block}, rows {_runs(damage.rows)}: {damage.what}"

    def _corrupt(self, damage: Damage) -> CorruptStore:
        return CorruptStore(
            f"{self.describe(damage)}; `strata store verify {self.place}` lists all damage, then `strata extract "
            f"{self.view}` computes those rows anew, or bring the store back with `dvc checkout --force`"
        )


def storage_of(path: str | Path | Storage) -> Storage:
    """The storage at a path or URL."""
    if isinstance(path, Storage):
        return path
    if "://" in str(path):
        from store.objects import ObjectStorage

        return ObjectStorage(str(path))
    return LocalStorage(Path(path))


def committed(storage: Storage) -> list[int]:
    """Numbers of the blocks that have keys, ascending."""
    names = ((layout.block_of(name), name) for name in storage.names("key/c"))
    return sorted(block for block, name in names if block is not None and name == layout.key_file(block))


def find_header(storage: Storage) -> layout.Header | None:
    """What the store says of itself, from the copy if need be; None where there is no store.

    A group's document is written when all else of an empty store is there.

    Raises:
        CorruptStore: there is one, but neither header can be trusted.
        StoreError: it is of a format that this code cannot read.
    """
    if not there(storage, "zarr.json") and not committed(storage):
        return None  # nothing at all, or a creation that was killed
    documents = [read_or_nothing(storage, name) for name in ("zarr.json", "key/zarr.json")]
    headers = [layout.read_header(document) for document in documents]
    header = headers[0] or headers[1]
    later = [layout.later_format(document) for document in documents]
    if header is None and any(later):
        known = " or ".join(map(str, layout.READABLE))
        raise StoreError(
            f"{storage.place}: expected a store of format {known}, found format {later[0] or later[1]}: "
            "it needs a newer version of strata-speech"
        )
    if header is None:
        raise CorruptStore(
            f"{storage.place}: no header that can be trusted, neither in zarr.json nor its copy in key/zarr.json; "
            "this is no Strata store, or both are damaged: bring it back with `dvc checkout --force`, or "
            f"`strata store drop {storage.place}`"
        )
    return header


def view_name(storage: Storage) -> str:
    """`wavlm` of `features/wavlm.zarr`."""
    return PurePosixPath(storage.place).stem


def there(storage: Storage, name: str) -> bool:
    """Whether a storage has a file."""
    try:
        storage.size(name)
    except FileNotFoundError:
        return False
    return True


def read_or_nothing(storage: Storage, name: str) -> bytes:
    """A file's bytes; none where it is not there."""
    try:
        return storage.read_all(name)
    except FileNotFoundError:
        return b""


def _runs(numbers: Sequence[int]) -> str:
    """`0 to 63, 128 to 191`."""
    numbers = np.unique(np.asarray(numbers, np.int64))
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
