"""Grids: one section of params.yaml that stands for many experiments, its cells.

A grid names fields and the values that each takes; a cell is one combination. Fields of fields are written with a dot
(`fusion.epsilon`). For a field that is a list, the words `each` and `pairs` stand for each of its elements alone and
for every two of them, in order:

    views: [wavlm, whisper, xvector]
    grid: {views: pairs, fusion: [concat, ot], fusion.epsilon: [0.1, 0.01]}

Turns sections into sections; trains nothing.
"""

import itertools
import re
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from strata.trainers.spec import Experiment
from strata.trainers.suggestion import nearest

_LISTS = ("corpora", "views", "tasks")
"""Fields that are lists of names."""


def cells(experiment: Experiment, corpora: Sequence[str]) -> dict[str, Experiment]:
    """The experiments that a section stands for, by name; without a grid just the one, whose name is empty.

    A cell's name has one part per field of the grid, in the grid's order, such as `demo/wavlm+xvector/ot`: a relative
    path, the same whatever other cells there are.

    Args:
        experiment: the section.
        corpora: the names of all corpora, for `corpora: each` where the section names none.

    Raises:
        ValueError: a field that no experiment has, a word or values that it cannot take, or two cells of one name.
    """
    if not experiment.grid:
        return {"": experiment}
    # The fields as they were written: what the user left out must stay left out of the cells.
    base = experiment.model_dump(mode="json", exclude_unset=True, exclude={"grid"})
    if not experiment.corpora and "corpora" in experiment.grid:
        base["corpora"] = list(corpora)
    fields = list(experiment.grid)
    for field, earlier in itertools.permutations(fields, 2):
        if earlier.startswith(f"{field}.") and fields.index(earlier) < fields.index(field):
            raise ValueError(f"grid.{field} would overwrite grid.{earlier}; write it first")
    axes = [_values(field, wanted, base) for field, wanted in experiment.grid.items()]
    found: dict[str, Experiment] = {}
    taken: set[str] = set()  # not every file system tells capitals apart
    for combination in itertools.product(*axes):
        name = "/".join(_slug(value) for value in combination)
        section = base
        for field, value in zip(fields, combination, strict=True):
            section = with_field(section, field.split("."), value)
        if name.lower() in taken:
            raise ValueError(f"the grid has two cells named {name}; drop one of them, or rename what they are named by")
        taken.add(name.lower())
        if "model" in name.lower().split("/"):  # where an experiment without a grid has its model
            raise ValueError(f"cell {name} of the grid: model is the name of a folder in it; rename what is named so")
        try:
            found[name] = Experiment.model_validate(section)
        except ValidationError as error:
            raise ValueError(f"cell {name} of the grid: {reason(error)}") from None
    return found


def _values(field: str, wanted: str | list, base: Mapping) -> list:
    """The values of one field of the grid."""
    known = [name for name in Experiment.model_fields if name not in ("grid", "seeds")]
    if field.split(".")[0] not in known:
        close = nearest(field, known)
        hint = f", did you mean {close!r}?" if close else f"; it can vary {', '.join(known)}"
        raise ValueError(f"grid.{field}: no field of an experiment that a grid can vary{hint}")
    if isinstance(wanted, list):
        if not wanted:
            raise ValueError(f"grid.{field} names no value")
        # A name alone stands for the list that holds it: `corpora: [acted, spontaneous]` are two values.
        return [[value] if field in _LISTS and not isinstance(value, list) else value for value in wanted]
    elements = base.get(field)
    if wanted not in ("each", "pairs") or not isinstance(elements, list):
        raise ValueError(
            f"grid.{field}: expected a list of values, or for a field that is a list the word each or pairs; "
            f"found {wanted!r}"
        )
    size = 1 if wanted == "each" else 2
    if len(elements) < size:
        raise ValueError(f"grid.{field}: {wanted} of {len(elements)} is nothing; name more in {field}")
    return [list(combination) for combination in itertools.combinations(elements, size)]


def with_field(section: Mapping, path: Sequence[str], value: object) -> dict:
    """The section, as a mapping, with one field or a field's field set."""
    if len(path) == 1:
        return {**section, path[0]: value}
    inner = section.get(path[0]) or {}
    if isinstance(inner, str):  # `fusion: ot` is short for a section of its own
        inner = {"kind": inner}
    return {**section, path[0]: with_field(inner, path[1:], value)}


def _slug(value: object) -> str:
    """A value as a part of a path."""
    if isinstance(value, Mapping):
        text = "-".join(_slug(part) for part in value.values())
    elif isinstance(value, list):
        text = "+".join(_slug(part) for part in value)
    else:
        text = str(value)
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", text.replace("->", "-")).strip("-.") or "none"


def reason(error: ValidationError) -> str:
    """The first mistake of a section, in one line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
