"""Which blocks of a store are known to be sound, so that an unchanged store need not be read to trust it.

The memory is `.strata/sound/<view>.json`: per block, the signature that its files had when they were last read, or
written, and found right. A block whose files have another signature since is read again before a run relies on it.
Beside it: how many files the store had then, and which store of dvc.lock's it goes back to.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.files import write_if_changed
from pipeline.progress import say
from store import FeatureStore
from store.block_store import Damage


def retire_damage(folder: Path, store: FeatureStore) -> None:
    """Takes damaged rows out of a locked store, so that they are computed anew; reads only what changed since."""
    damages = store.damage(unchanged=_read(folder, store.view).get("sound"))
    for damage in damages:
        say(store.describe(damage))
    if damages:
        lost = store.retire(damages)
        say(f"{store.view}: {lost} damaged rows were taken out, to be computed anew; the others are kept")


def remember(folder: Path, store: FeatureStore, damages: Sequence[Damage] = (), listed: str | None = None) -> None:
    """All blocks but the damaged ones are as they should be: they have just been read or written.

    Args:
        folder: the study's.
        store: as it is now.
        damages: what was found wrong with it.
        listed: the md5 by which dvc.lock knows the store that this one goes back to; None leaves what is remembered.
    """
    bad = {str(damage.block) for damage in damages}
    memory = {
        "listed": _read(folder, store.view).get("listed") if listed is None else listed,
        "files": len(store.storage.names()),
        "sound": {block: signature for block, signature in store.signatures().items() if block not in bad},
    }
    write_if_changed(_file(folder, store.view), json.dumps(memory, indent=0).encode())


def was_whole(folder: Path, view: str, listed: str, num_files: int) -> bool:
    """Whether a store was here once that held all of what dvc.lock lists by this md5, in so many files."""
    memory = _read(folder, view)
    return memory.get("listed") == listed or memory.get("files", 0) >= num_files


def _read(folder: Path, view: str) -> dict:
    try:
        return dict(json.loads(_file(folder, view).read_text()))
    except (OSError, ValueError, TypeError):
        return {}  # none yet, or unreadable: then everything is read


def _file(folder: Path, view: str) -> Path:
    return folder / ".strata" / "sound" / f"{view}.json"
