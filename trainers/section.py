"""What all sections of params.yaml are, and which of their keys a result follows from.

A result follows from a section by its values as they are once defaults are filled in, so that a changed default counts.
A key that does nothing does not count, so that a key which is new to this project changes nothing of what was computed
before there was one. When a key does nothing is declared beside it:

    l1: Annotated[float, Neutral(0.0)] = Field(0.0, ge=0)
    channels: Annotated[list[int], ReadIf(lambda how: how.encoder == "cnn")] = [32, 64]
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class Neutral:
    """The value at which a key does nothing. That may be its default, and goes on being neutral when that changes."""

    value: object


@dataclass(frozen=True)
class ReadIf:
    """A key that nobody looks at unless this holds of its section."""

    condition: Callable[[Any], bool]


class Section(BaseModel):
    """An immutable section of params.yaml; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def resolved(self) -> dict[str, object]:
        """What a result follows from: the values of all keys that do something, as JSON can hold them."""
        fields = type(self).model_fields
        return {name: _plain(getattr(self, name)) for name, field in fields.items() if self._counts(name, field)}

    def reads(self, key: str) -> bool:
        """Whether anybody looks at a key, the others being as they are."""
        declared = type(self).model_fields[key].metadata
        return all(each.condition(self) for each in declared if isinstance(each, ReadIf))

    def _counts(self, name: str, field) -> bool:
        value = getattr(self, name)
        does_nothing = any(isinstance(each, Neutral) and each.value == value for each in field.metadata)
        return self.reads(name) and not does_nothing


def _plain(value: object) -> object:
    if isinstance(value, Section):
        return value.resolved()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
