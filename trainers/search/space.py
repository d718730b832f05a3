"""What a search may try: an experiment's section, and what some of its fields take instead.

    space: {learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}, batch_size: [32, 64], fusion.epsilon: [0.1, 0.01]}

Every value is put into the section and checked before anything is trained. Turns sections into sections, as
`search.grid` does; how values are chosen is for `search.tuning`, and nothing here knows of it.
"""

import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import get_args

from pydantic import BaseModel, ValidationError

from strata.trainers.search.grid import reason, with_field
from strata.trainers.search.unused import DECIDING, unread, why_unread
from strata.trainers.spec import Experiment, Range, Tune
from strata.trainers.suggestion import nearest

FIXED = ("corpora", "tasks", "folds", "seeds", "final", "grid")
"""Fields that say what is asked and of whom: trials that differ in them could not be compared."""
_COUPLED = ("views", "encoder", "channels", "joint", "fusion", "batch_size")
"""Fields of which some values cannot be beside some of another's."""
_MOST = 1000
"""Combinations with other fields' values in which a value is looked for a place, at most."""


@dataclass(frozen=True)
class Takeover:
    """How the section of an experiment becomes one of a search's trials."""

    fragment: dict[str, object]
    """Fields to write into it, each in the place of what is there."""
    drop: tuple[str, ...]
    """Fields of it that nothing reads any more."""
    drop_with_search: tuple[str, ...]
    """Fields of it that only other trials of the search read."""


class Space:
    """The experiments that a search can come to, each told by the values of the fields searched.

    Attributes:
        how: the search's section.
        base: the experiment that it starts from.
        axes: for each field, in the order in which they are put into the section, its values or its interval; numbers
            written as text (`1e-4`, which is none in YAML) are numbers here.
        whole: fields with an interval of whole numbers.
    """

    def __init__(self, how: Tune, base: Experiment):
        """Checks all values.

        Raises:
            ValueError: a grid, a field that cannot be searched, or a value that it cannot take.
        """
        if base.grid:
            raise ValueError(f"experiment {how.experiment} is a grid; a search starts from a section without one")
        self.how, self.base = how, base
        self._section = base.model_dump(mode="json", exclude_unset=True)  # what was left out stays left out
        fields = list(how.space)
        for field in fields:
            _check_field(field)
        for field, earlier in itertools.permutations(fields, 2):
            if earlier.startswith(f"{field}.") and fields.index(earlier) < fields.index(field):
                raise ValueError(f"space.{field} would overwrite space.{earlier}; write it first")
        for field in fields:
            if field != _top(field) and _top(field) not in fields and getattr(base, _top(field)) is None:
                raise ValueError(
                    f"space.{field}: experiment {how.experiment} has no {_top(field)}; give it one, or search over "
                    f"{_top(field)} as well"
                )
        # A name alone stands for the list that holds it, as in a grid.
        self.axes: dict[str, Range | list] = {
            field: [[value] if isinstance(value, str) else value for value in wanted] if field == "views" else wanted
            for field, wanted in how.space.items()
        }
        if empty := [field for field, wanted in self.axes.items() if isinstance(wanted, list) and not wanted]:
            raise ValueError(f"space.{empty[0]} names no value")
        self.whole: set[str] = set()
        for field, wanted in self.axes.items():
            if isinstance(wanted, Range):
                self._check_range(field, wanted)
            else:
                self.axes[field] = self._values(field, wanted)

    def experiment(self, params: Mapping[str, object]) -> Experiment:
        """The base with some fields replaced.

        Raises:
            ValueError: values that do not go together.
        """
        try:
            return Experiment.model_validate(self._with(params))
        except ValidationError as error:
            raise ValueError(reason(error)) from None

    def refuse_unread(self) -> None:
        """Looks whether every field is read by some trial: else all that differ in it would be the same.

        Raises:
            ValueError: one is not.
        """
        for field in self.axes:
            if told := why_unread(field, self.variants({*DECIDING, _top(field)})):
                raise ValueError(f"space.{told}")

    @property
    def num_trials(self) -> int:
        """How many a search runs."""
        return len(self.combinations()) if self.how.search == "grid" else self.how.trials

    def combinations(self) -> list[dict[str, object]]:
        """Of a grid all of them; the last field turns fastest."""
        return [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]

    def variants(self, fields: Collection[str]) -> Iterator[Experiment]:
        """One experiment for every combination of some fields' listed values that can be, and the base.

        Args:
            fields: names of fields; with one all fields of its section are meant.
        """
        yield self.base
        axes = {name: axis for name, axis in self.axes.items() if _top(name) in fields and not isinstance(axis, Range)}
        for values in itertools.product(*axes.values()):
            yield from itertools.islice(self._possible(dict(zip(axes, values, strict=True))), 1)

    def _possible(self, params: Mapping[str, object]) -> Iterator[Experiment]:
        """Experiments with these values, beside the base's others or, if need be, others of the space."""
        for others in itertools.chain([{}], self._surroundings(*params)):
            with suppress(ValueError):
                yield self.experiment({**others, **params})

    @property
    def start(self) -> dict[str, object] | None:
        """The values that make the base as it stands; None where it does not lie in the space."""
        found = {}
        here = self.base.model_dump(mode="json")
        for field, axis in self.axes.items():
            if _top(field) != field and _top(field) in self.axes and here[_top(field)] is None:
                found[field] = axis.low if isinstance(axis, Range) else axis[0]  # none is taken: see `_with`
                continue
            if isinstance(axis, Range):
                value = _at(here, field)
                if not isinstance(value, int | float) or not _holds(axis, value):
                    return None
                found[field] = value
                continue
            same = [value for value in axis if self._or_none({field: value}) == here]
            if not same:
                return None
            found[field] = same[0]
        return found if self._or_none(found) == here else None

    @property
    def views(self) -> list[str]:
        """All views that a trial may ask for, and those of the base, which may lie outside of the space."""
        lists = [*self.axes.get("views", []), self.base.views]
        return list(dict.fromkeys(view for views in lists for view in views))

    @property
    def layers(self) -> list:
        """All that `layers` may be, and what it is in the base."""
        found = list(self.axes.get("layers", []))
        return found if self.base.layers in found else [*found, self.base.layers]

    def takeover(self, params: Mapping[str, object]) -> Takeover:
        """What to write into the base's section, and to drop, so that it is `experiment(params)`, with nothing unread.

        Raises:
            ValueError: values that do not go together.
        """
        chosen = self.experiment(params)
        again = Space(self.how, chosen)
        tops = list(dict.fromkeys(map(_top, params)))
        alone, by_trials = unread(chosen, [chosen]), unread(chosen, again.variants(DECIDING))
        # A field that the search sets by itself needs no value in the section, which may have another than the trial.
        drop = [field for field in tops if not chosen.reads(field)]
        drop += [key for key in alone if key not in drop and (key in by_trials or key in params or _top(key) in params)]
        section = self._with(params)
        for key in drop:
            section = _without(section, key)
        fragment = {field: section[field] for field in tops if field in section}
        # Perhaps nobody wrote the base's encoder: it followed from fields that are others now.
        if _implied_encoder(self._section) == self.base.encoder and _implied_encoder(section) != chosen.encoder:
            fragment["encoder"] = chosen.encoder
        return Takeover(
            fragment,
            tuple(key for key in drop if _top(key) not in fragment and _at(self._section, key) is not None),
            tuple(key for key in alone if key not in drop),
        )

    def _with(self, params: Mapping[str, object]) -> dict:
        section = self._section
        for field in self.how.space:  # in this order, whatever the order of the values
            # A trial without fusion (`fusion: [null, ot]`) takes no value of `fusion.epsilon`.
            absent = _top(field) != field and _top(field) in params and section[_top(field)] is None
            if field in params and not absent:
                section = with_field(section, field.split("."), params[field])
        return section

    def _or_none(self, params: Mapping[str, object]) -> dict | None:
        try:
            return self.experiment(params).model_dump(mode="json")
        except ValueError:
            return None

    def _values(self, field: str, wanted: list) -> list:
        """The values of a list, each as the section takes it."""
        found = [self._taken(field, value) for value in wanted]
        if len({json.dumps(value, sort_keys=True) for value in found}) < len(found):
            raise ValueError(f"space.{field} must name each value once; got {wanted}")
        scalars = (str, int, float, type(None))
        return [new if isinstance(new, scalars) else old for old, new in zip(wanted, found, strict=True)]

    def _check_range(self, field: str, wanted: Range) -> None:
        ends = [self._taken(field, end) for end in (wanted.low, wanted.high)]
        if any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
            raise ValueError(f"space.{field}: an interval is for numbers; give a list of values")
        if all(isinstance(end, int) for end in ends):
            self.whole.add(field)
            if wanted.step and wanted.step != int(wanted.step):
                raise ValueError(f"space.{field}: expected a whole step of whole numbers, found {wanted.step}")

    def _taken(self, field: str, value: object) -> object:
        """The value as the field takes it, beside values that a trial may have of the others.

        Raises:
            ValueError: it cannot be in any trial.
        """
        error = None
        for others in self._surroundings(field):
            if (
                _top(field) != field and others.get(_top(field), field) is None
            ):  # would not be taken at all: see `_with`
                continue
            try:
                return _at(self.experiment({**others, field: value}).model_dump(mode="json"), field)
            except ValueError as found:
                error = error or found
        try:
            self.experiment({field: value})
        except ValueError as found:  # beside the base's own values: it says most
            error = found
        raise ValueError(f"space.{field}: {value!r} cannot be; {error}")

    def _surroundings(self, *fields: str) -> Iterator[dict[str, object]]:
        """Values of the other fields beside which values of these are tried: of those that may not go with them."""
        others = {name: axis for name, axis in self.axes.items() if name not in fields and _top(name) in _COUPLED}
        # The last turns fastest: what decides most comes through all its values before the others begin to turn.
        others = {name: others[name] for name in sorted(others, key=lambda name: name in DECIDING)}
        lists = [axis if isinstance(axis, list) else [axis.low] for axis in others.values()]
        for values in itertools.islice(itertools.product(*lists), _MOST):
            yield dict(zip(others, values, strict=True))


def _check_field(field: str) -> None:
    known = list(_searchable())
    if field in known:
        return
    top = _top(field)
    if top in FIXED:
        raise ValueError(f"space.{field}: {top} is the same in all trials; what can be searched: {', '.join(known)}")
    close = nearest(field, known)
    hint = f", did you mean {close!r}?" if close else f"; known: {', '.join(known)}"
    raise ValueError(f"space.{field}: no field of an experiment that can be searched{hint}")


def _searchable() -> Iterator[str]:
    for name, field in Experiment.model_fields.items():
        if name in FIXED:
            continue
        yield name
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from (f"{name}.{inner}" for inner in part.model_fields)


def _top(field: str) -> str:
    """The field of the section that a field, or a field's field, belongs to."""
    return field.split(".")[0]


def _implied_encoder(section: Mapping) -> str:
    """What a section has that names none."""
    return Experiment.model_validate(_without(section, "encoder")).encoder


def _without(section: Mapping, field: str) -> dict:
    """The section without a field, or a field's field."""
    top, _, inner = field.partition(".")
    if not inner:
        return {name: value for name, value in section.items() if name != top}
    return {**section, top: _without(section[top], inner)}


def _at(section: Mapping, field: str) -> object:
    """The value of a field, or of a field's field; None where that section is not there."""
    for part in field.split("."):
        section = section.get(part) if isinstance(section, Mapping) else None
    return section


def _holds(interval: Range, value: int | float) -> bool:
    if not interval.low <= value <= interval.high:
        return False
    steps = (value - interval.low) / interval.step if interval.step else 0.0
    return abs(steps - round(steps)) < 1e-9
