"""Keys of an experiment that nothing reads: what is written is used by some cell of the section, or refused.

A key that a grid's cells share is read by some of them and not by others; so the section is looked at as a whole.
"""

from collections.abc import Callable, Iterable

from strata.trainers.modules.fusions.section import Fusion, kinds_that_read
from strata.trainers.spec import Experiment

_Reads = Callable[[Experiment], bool]


def _shares(cell: Experiment) -> bool:
    return cell.joint and len(cell.tasks) > 1


_READ: dict[str, tuple[_Reads, str]] = {
    "channels": (lambda cell: cell.encoder not in ("linear", "mlp", "unified"), "the encoder cnn"),
    "hidden": (lambda cell: cell.encoder not in ("linear", "unified"), "the encoder mlp or cnn"),
    "head": (
        lambda cell: cell.encoder not in ("linear", "unified") and _shares(cell),
        "several tasks that share a network (encoder mlp or cnn, joint)",
    ),
    "shared": (lambda cell: cell.encoder not in ("linear", "mlp", "cnn"), "the encoder unified"),
    "embedding": (lambda cell: cell.encoder not in ("linear", "mlp", "cnn"), "the encoder unified"),
    "pooling": (lambda cell: cell.pools, "several layers (layers: all, or a list), or the encoder unified"),
    "balancing": (_shares, "several tasks of one model (joint)"),
}
"""By key, which cells read it, and in words what it is for."""


def refuse_unused(section: Experiment, cells: Iterable[Experiment]) -> None:
    """Looks whether every key that a section names is read by one of its cells.

    Args:
        section: as written.
        cells: what it stands for; itself, where it has no grid.

    Raises:
        ValueError: a key is not.
    """
    cells = list(cells)
    fields = type(section).model_fields
    # What is written as it is by default anyway misleads nobody.
    named = (key for key in section.model_fields_set if getattr(section, key) != fields[key].get_default())
    given = {*named, *section.grid}
    for key, (reads, what_for) in _READ.items():
        if key in given and not any(map(reads, cells)):
            raise ValueError(_told(key, what_for, _found(key, cells)))
    fusions = [cell.fusion for cell in cells if cell.fusion is not None]
    for key in Fusion.model_fields:
        if any(key in each.model_fields_set for each in fusions) and not any(each.reads(key) for each in fusions):
            kinds = " and ".join(dict.fromkeys(each.kind for each in fusions))
            raise ValueError(_told(f"fusion.{key}", f"the fusion {' or '.join(kinds_that_read(key))}", kinds))


def _found(key: str, cells: list[Experiment]) -> str:
    if key in ("pooling", "balancing"):
        return "a single layer" if key == "pooling" else "a task on its own"
    encoders = " and ".join(dict.fromkeys(cell.encoder for cell in cells))
    return f"encoder {encoders}" + (" and a task on its own" if key == "head" and not any(map(_shares, cells)) else "")


def _told(key: str, what_for: str, found: str) -> str:
    return f"{key} is for {what_for}, found {found}, where nothing reads it: drop it, or change the other"
