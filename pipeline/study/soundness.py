"""Which blocks of a store are known to be sound, so that an unchanged store need not be read to trust it.

The memory is `.strata/sound/<view>.json`: per block, the signature that its files had when they were last read and
found right, or written. A block whose files have another signature since is read again before a run relies on it. So
are the `suspects` that `strata store verify` found damaged: rot changes bytes and no signature.

It also tells a store that lost a file here, which an extraction mends, from one that DVC has only half fetched: see
`dvcfile.lacking`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from strata.pipeline.files import write_if_changed
from strata.pipeline.progress import say
from strata.store import FeatureStore
from strata.store.block_store import Damage


@dataclass
class Known:
    """What is remembered of one store."""

    file: Path
    sound: dict[str, str] = field(default_factory=dict)
    """Signatures by block."""
    listed: str = ""
    """The md5 by which dvc.lock listed the store when nothing of it was lacking."""
    num_files: int = 0
    """Files of the store when the last run ended."""

    @classmethod
    def read(cls, folder: Path, view: str) -> "Known":
        """What the study in a folder remembers of a view; nothing where that is absent or unreadable."""
        file = folder / ".strata" / "sound" / f"{view}.json"
        try:
            return cls(file, **json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            return cls(file)

    def mend(self, store: FeatureStore) -> None:
        """Takes damaged rows out of a locked store, to be computed anew; reads only what may have changed."""
        suspects = _read_suspects(self.file)
        before = store.signatures()
        trusted = {block: seen for block, seen in self.sound.items() if int(block) not in suspects}
        unread = [block for block, seen in before.items() if trusted.get(block) != seen]
        if len(unread) > 10:  # else it is done at once
            say(f"{store.view}: checking {len(unread)} blocks that were not written, or not last checked, here")
        damages = store.damage(trusted)
        damaged = {str(damage.block) for damage in damages}
        self.sound = {block: seen for block, seen in before.items() if block not in damaged}
        for damage in damages:
            say(store.describe(damage))
        if damages:
            self.write(store)  # should the repair be cut short, nothing that it removes is missed
            lost = store.retire(damages)
            say(f"{store.view}: {lost} damaged rows were taken out, to be computed anew; the others are kept")
        for block in set(store.committed()) - {int(block) for block in self.sound}:
            self.add(store, block)  # just written, by `retire`
        self.write(store)
        note_suspects(self.file, _read_suspects(self.file) - suspects)

    def add(self, store: FeatureStore, block: int) -> None:
        """A block that has just been committed is sound."""
        self.sound[str(block)] = store.signature(block)

    def write(self, store: FeatureStore) -> None:
        """Keeps it for the next run."""
        self.num_files = len(store.storage.names())
        kept = {name: value for name, value in asdict(self).items() if name != "file"}
        write_if_changed(self.file, json.dumps(kept, indent=0).encode())

    def was_whole(self, store: Path, listed: str, num_files: int) -> bool:
        """Whether all that dvc.lock lists was here once, and no more than one block has lost files since."""
        spoilt = [seen for seen in self.sound.values() if not all((store / name).exists() for name in _names(seen))]
        return (self.listed == listed or self.num_files >= num_files) and len(spoilt) <= 1

    def forget(self) -> None:
        """For a store that is dropped."""
        self.file.unlink(missing_ok=True)
        note_suspects(self.file, set())


def suspect(folder: Path, store: FeatureStore, damages: Sequence[Damage]) -> None:
    """Notes what reading all of a store has found, for the next extraction to mend."""
    note_suspects(Known.read(folder, store.view).file, {damage.block for damage in damages})


def note_suspects(file: Path, blocks: set[int]) -> None:
    """Replaces the list of suspects that lies beside a memory."""
    path = file.with_suffix(".suspects.json")
    if blocks:
        write_if_changed(path, json.dumps(sorted(blocks)).encode())
    else:
        path.unlink(missing_ok=True)


def _read_suspects(file: Path) -> set[int]:
    try:
        return set(json.loads(file.with_suffix(".suspects.json").read_text()))
    except (OSError, ValueError, TypeError):
        return set()


def _names(signature: str) -> list[str]:
    return [part.rsplit(":", 1)[0] for part in signature.split(";") if part]
