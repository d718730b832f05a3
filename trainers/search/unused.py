"""Keys of an experiment that nothing reads: what is written is used by some cell of the section, or refused.

A key that a grid's cells share is read by some of them and not by others, and so is one that trials of a search share
with the section that it starts from; so these are looked at together.
"""

from collections.abc import Iterable

from strata.trainers.modules.fusions.section import Fusion, kinds_that_read
from strata.trainers.spec import Experiment

_WHAT_FOR = {
    "channels": "the encoder cnn",
    "hidden": "the encoder mlp or cnn",
    "head": "several tasks that share a network (encoder mlp or cnn, joint)",
    "shared": "the encoder unified",
    "embedding": "the encoder unified",
    "pooling": "several layers (layers: all, or a list), or the encoder unified",
    "balancing": "several tasks of one model (joint)",
}
"""The keys that are not always read (`ReadIf`), and what they are for."""

DECIDING = ("encoder", "channels", "layers", "views", "fusion", "joint")
"""Fields by which it is decided which others are read, by themselves or by what is their default then."""


def unread(section: Experiment, cells: Iterable[Experiment]) -> dict[str, str]:
    """The keys that a section names and no cell reads (`fusion.epsilon` for one of a fusion), each with a line on why.

    What is written as it is by default anyway misleads nobody, and is not among them.

    Args:
        section: as written.
        cells: what it stands for: itself, where it has no grid.
    """
    cells, fields = list(cells), type(section).model_fields
    named = (key for key in section.model_fields_set if getattr(section, key) != fields[key].get_default())
    given = {*named, *section.grid}
    found = {
        key: _told(key, what_for, _found(key, cells))
        for key, what_for in _WHAT_FOR.items()
        if key in given and not any(cell.reads(key) for cell in cells)
    }
    fusions = [cell.fusion for cell in cells if cell.fusion is not None]
    kinds = " and ".join(dict.fromkeys(each.kind for each in fusions))
    for key, field in Fusion.model_fields.items():
        given = any(getattr(each, key) != field.get_default() for each in fusions)
        if given and not any(each.reads(key) for each in fusions):
            found[f"fusion.{key}"] = _told(f"fusion.{key}", f"the fusion {' or '.join(kinds_that_read(key))}", kinds)
    return found


def why_unread(field: str, trials: Iterable[Experiment]) -> str | None:
    """A line on why no trial of a search reads a field that it searches; None where one does."""
    top, _, inner = field.partition(".")
    seen = []
    for trial in trials:
        of = trial if not inner else getattr(trial, top)
        if of is not None and of.reads(inner or top):
            return None
        seen.append(trial)
    if inner:
        kinds = " and ".join(dict.fromkeys(trial.fusion.kind for trial in seen if trial.fusion is not None))
        return _told(field, f"the fusion {' or '.join(kinds_that_read(inner))}", kinds)
    return _told(field, _WHAT_FOR[field], _found(field, seen))


def refuse_unused(section: Experiment, cells: Iterable[Experiment], trials: Iterable[Experiment] = ()) -> None:
    """Looks whether every key that a section names is read by somebody.

    Args:
        section: as written.
        cells: what it stands for; itself, where it has no grid.
        trials: what searches make of it; looked at only where the cells leave a key unread.

    Raises:
        ValueError: a key is not.
    """
    cells = list(cells)
    if found := unread(section, cells):
        by_all = unread(section, [*cells, *trials])
        for key, told in found.items():
            if key in by_all:
                raise ValueError(told)


def _found(key: str, cells: list[Experiment]) -> str:
    if key in ("pooling", "balancing"):
        return "a single layer" if key == "pooling" else "a task on its own"
    encoders = " and ".join(dict.fromkeys(cell.encoder for cell in cells))
    alone = key == "head" and not any(cell.joint and len(cell.tasks) > 1 for cell in cells)
    return f"encoder {encoders}" + (" and a task on its own" if alone else "")


def _told(key: str, what_for: str, found: str) -> str:
    return f"{key} is for {what_for}, found {found}, where nothing reads it: drop it, or change the other"
