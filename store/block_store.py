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

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

import numpy as np

from strata.store import blocks, documents, layout
from strata.store.blocks import Rows
from strata.store.errors import CorruptStore, StoreError
from strata.store.opening import committed, find_header, read_or_nothing, there, view_name
from strata.store.shards import Damaged
from strata.store.storage import PARTIAL, Storage


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

    def committed(self) -> list[int]:
        """Numbers of the blocks that have keys."""
        return committed(self.storage)

    def num_bytes(self) -> int:
        """Size of all files; beside a writer, as good as can be told."""
        total = 0
        for name in self.storage.names():
            try:
                total += self.storage.size(name)
            except FileNotFoundError:  # it has just been put in place, or removed
                continue
        return total

    @property
    def notes(self) -> dict[str, list[str]]:
        """What was noted of how rows came about, of any of them; no value is read by it."""
        try:
            found = json.loads(read_or_nothing(self.storage, layout.NOTES) or b"{}")
        except ValueError:  # damaged: a loss for readers of the provenance alone
            return {}
        return found if isinstance(found, dict) else {}

    # -- writing ---------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator["BlockStore"]:
        """Holds the right to write; what other writers did meanwhile is seen. May be nested.

        What writers that died left behind is removed, and documents that are damaged or of format 1 are written anew.

        Raises:
            StoreLocked: another process holds it.
            StoreError: another store lies here than when this one was opened.
        """
        if self._lock_depth:
            yield self
            return
        with self.storage.exclusive():
            self._lock_depth += 1
            try:
                self._forget()
                self._check_same_store()
                self.sweep()
                self.header = documents.mend(self.storage, self.header)
                self._num_blocks = documents.num_blocks(self.storage, self.header)
                yield self
            finally:
                self._lock_depth -= 1

    def note(self, name: str, values: Iterable[str]) -> None:
        """Adds to what is noted under a name; what is there stays, whoever wrote it. Needs the lock."""
        self._require_lock()
        before = self.notes
        after = before | {name: sorted({*before.get(name, ()), *values})}
        if after != before:
            self.storage.write(layout.NOTES, [json.dumps(after, sort_keys=True).encode()])
            self.storage.flush()

    def reserve(self) -> int:
        """The number of a block for somebody to write; needs the lock. No number is ever given out twice."""
        self._require_lock()
        grown = layout.documents(self.header, self._num_blocks + 1)
        for name in layout.ARRAYS:
            self.storage.write(name, [grown[name]])
        self.storage.flush()
        self._num_blocks += 1
        return self._num_blocks - 1

    def claim(self, block: int) -> str | None:
        """Makes the caller the writer of a reserved block; None if there has been one, who may still be at it.

        Needs no lock: whoever is given a block's number claims it, perhaps on another machine. The token that comes
        back is what `write_block` and `commit` know the writer by.
        """
        token = uuid4().hex
        return token if self.storage.create(layout.claim_file(block), token.encode()) else None

    def write_block(self, block: int, rows: Rows, claim: str) -> None:
        """Writes the values of a block that the caller has claimed, for `commit` to confirm; needs no lock.

        Raises:
            StoreError: more rows than a block has, values that do not fit the store or are not finite, or a block that
                is not the caller's (any more). Nothing is written then.
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
        self._require_claim(block, claim)
        blocks.write_values(self.storage, self.header, block, rows)
        try:
            self._require_claim(block, claim)
        except StoreError:  # given up for dead in the meantime: nobody else sweeps up behind it
            blocks.remove(self.storage, {*layout.block_files(self.header, block)} - {layout.key_file(block)})
            raise

    def commit(self, block: int, keys: Sequence[str], num_frames: Sequence[int] | np.ndarray, claim: str) -> None:
        """Makes a block's rows exist, once `write_block` has returned for them; needs the lock.

        Raises:
            StoreError: the block was not reserved, was written by somebody else, or its files are not here in full: its
                writer sees another folder.
        """
        self._require_lock()
        if not 0 <= block < self._num_blocks:
            raise StoreError(f"{self.place}: block {block} was not reserved; there are {self._num_blocks}")
        self._require_claim(block, claim)
        try:
            blocks.check_sizes(self.storage, self.header, block, len(keys), int(np.sum(num_frames, dtype=np.int64)))
        except Damaged as error:
            raise StoreError(
                f"{self.place}: block {block} is not here as it was written ({error}); "
                "every worker must see the store under the same path"
            ) from error
        blocks.write_keys(self.storage, self.header, block, keys)
        self.storage.remove(layout.claim_file(block))

    def sweep(self) -> None:
        """Removes what dead writers left: blocks without keys, files that were never put in place; needs the lock."""
        self._require_lock()
        kept = set(self.committed())
        for name in sorted(self.storage.names(), key=lambda name: name.endswith(layout.CLAIM)):
            unfinished = layout.block_of(name) is not None and layout.block_of(name) not in kept
            # A block's claim goes last: values without one are those of a block whose keys were lost.
            if unfinished or name.endswith((layout.CLAIM, PARTIAL, ".tmp")):  # .tmp: of a killed `dvc checkout`
                self.storage.remove(name)

    def _append(self, rows: Rows) -> None:
        """Reserves, writes and commits as many blocks as the rows need."""
        for start in range(0, len(rows.keys), self.header.block_rows):
            part = rows.part(start, start + self.header.block_rows)
            block = self.reserve()
            claim = self.claim(block)
            if claim is None:
                raise StoreError(f"{self.place}: block {block} has another writer, in spite of the lock")
            self.write_block(block, part, claim)
            self.commit(block, part.keys, part.num_frames, claim)

    # -- damage ----------------------------------------------------------------------------------------------------

    def verify(self) -> list[str]:
        """Reads every committed value; a line for all that is damaged (view, block, rows), none where all is well."""
        return [self.describe(damage) for damage in self.damage()] + self.damaged_documents()

    def damaged_documents(self) -> list[str]:
        """A line for each document that is not what was written; the next writer writes it anew."""
        return [
            f"{self.place}: view {self.view}, all blocks: {name} is not what was written; no value depends on it, "
            f"and `strata extract {self.view}` writes it anew"
            for name in documents.damaged(self.storage, self.header)
        ]

    def damage(self, unchanged: Mapping[str, str] | None = None) -> list[Damage]:
        """Reads every value of all committed blocks but those whose signature is still that in `unchanged`."""
        signatures, found = self.signatures() if unchanged else {}, self._lost_commits()
        for block in self.committed():
            if unchanged and str(block) in signatures and signatures[str(block)] == unchanged.get(str(block)):
                continue
            try:
                keys = blocks.read_keys(self.storage, self.header, block)
            except Damaged as error:
                if there(self.storage, layout.key_file(block)):  # else a repair has taken the block away meanwhile
                    found.append(self._damage(block, np.arange(self.header.block_rows), f"key: {error}"))
                continue
            rows = np.array([row for row, key in enumerate(keys) if key], np.int64)
            flaws = list(blocks.flaws(self.storage, self.header, block, rows))
            if flaws and there(self.storage, layout.key_file(block)):
                found += [self._damage(block, flaw.rows, flaw.what, flaw.of_values) for flaw in flaws]
        return found

    def signatures(self) -> dict[str, str]:
        """Per committed block, what changes whenever somebody writes one of its files; no file is read."""
        return {str(block): self.signature(block) for block in self.committed()}

    def signature(self, block: int) -> str:
        """That of one block, as in `signatures`."""
        parts = []
        for name in layout.block_files(self.header, block):
            try:
                parts.append(f"{name}:{self.storage.signature(name)}")
            except FileNotFoundError:  # a block without frames, or one that has lost a file
                continue
        return ";".join(parts)

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
        latest = self._latest_blocks()
        for block in sorted(spoilt):
            first = block * self.header.block_rows
            bad = {row - first for d in damages if d.block == block and d.of_values for row in d.rows}
            # A row that a later block holds as well was copied by a retirement that was cut short.
            rows = {row: key for key, (home, row) in latest.items() if home == block}
            sound = np.array(sorted(row for row in rows if row not in bad), np.int64)
            lost += len(rows) - len(sound)
            if len(sound):
                kept = [rows[row] for row in sound.tolist()]
                try:
                    self._append(blocks.read_rows(self.storage, self.header, block, kept, sound))
                except Damaged as error:  # since it was looked at
                    raise self._corrupt(self._damage(block, sound, str(error))) from error
            # The claim marks what is left of the block as unfinished business, should this be cut short.
            self.storage.create(layout.claim_file(block), b"retired")
            blocks.remove(self.storage, layout.block_files(self.header, block))
            self.storage.remove(layout.claim_file(block))
        self.storage.flush()
        self._forget()
        return lost

    def describe(self, damage: Damage) -> str:
        """Where and what, for a person."""
        return f"{self.place}: view {self.view}, block {damage.block}, rows {_runs(damage.rows)}: {damage.what}"

    # -- inside ----------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        """Called when what is remembered of the blocks may have become wrong."""

    def _check_same_store(self) -> None:
        found = find_header(self.storage)
        if found is None or replace(found, format=self.header.format) != self.header:
            raise StoreError(f"{self.place} was replaced by another store since it was opened; open it again")
        self.header = found

    def _require_lock(self) -> None:
        if not self._lock_depth:
            raise StoreError(f"{self.place}: writing needs the lock: `with store.locked(): …`")

    def _require_claim(self, block: int, claim: str) -> None:
        if read_or_nothing(self.storage, layout.claim_file(block)) != claim.encode():
            raise StoreError(
                f"{self.place}: block {block} was not claimed by this writer, or is committed, or was given up; "
                "reserve and claim a new one"
            )

    def _keys_of(self, block: int) -> list[str]:
        try:
            return blocks.read_keys(self.storage, self.header, block)
        except Damaged as error:
            damage = self._damage(block, np.arange(self.header.block_rows), f"key: {error}")
            raise self._corrupt(damage) from error

    def _latest_blocks(self) -> dict[str, tuple[int, int]]:
        """(block, row within it) of every key that can be read; of several, the latest."""
        latest = {}
        for block in self.committed():
            try:
                keys = self._keys_of(block)
            except CorruptStore:
                continue
            latest.update((key, (block, row)) for row, key in enumerate(keys) if key)
        return latest

    def _lost_commits(self) -> list[Damage]:
        """Blocks with values but neither keys nor a claim: nobody was at them, so their keys have gone."""
        found = []
        for block, names in self._files_by_block().items():
            if layout.counts_file(block) not in names or {layout.key_file(block), layout.claim_file(block)} & {*names}:
                continue
            # Looked at once more, in this order: a writer claims, writes, commits, and then gives up its claim.
            if there(self.storage, layout.claim_file(block)) or there(self.storage, layout.key_file(block)):
                continue
            if not there(self.storage, layout.counts_file(block)):
                continue
            try:
                rows = np.flatnonzero(blocks.read_counts(self.storage, self.header, block) >= 0)
            except Damaged:
                rows = np.arange(self.header.block_rows)
            found.append(self._damage(block, rows, "key: the file is gone"))
        return found

    def _files_by_block(self) -> dict[int, list[str]]:
        files: dict[int, list[str]] = {}
        for name in self.storage.names():
            block = layout.block_of(name)
            if block is not None and not name.endswith(PARTIAL):
                files.setdefault(block, []).append(name)
        return files

    def _damage(self, block: int, rows: np.ndarray, what: str, of_values: bool = True) -> Damage:
        return Damage(block, tuple((rows + block * self.header.block_rows).tolist()), what, of_values)

    def _corrupt(self, damage: Damage) -> CorruptStore:
        return CorruptStore(
            f"{self.describe(damage)}; `strata store verify {self.place}` lists all damage, then `strata extract "
            f"{self.view}` computes those rows anew, or bring the store back with `dvc checkout --force`"
        )


def _runs(numbers: Sequence[int]) -> str:
    """`0 to 63, 128 to 191`."""
    numbers = np.unique(np.asarray(numbers, np.int64))
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs if len(run))
