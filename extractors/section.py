"""A section of params: refuses unknown keys, and says in one line what is wrong.

What `extractors.view` and `extractors.recogniser` are made of. Knows no key of theirs.
"""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from strata.extractors.contract import ViewError
from strata.extractors.suggestion import suggestion


class Section(BaseModel):
    """Refuses unknown keys, so that a typing error is never silently a default; never changes once checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def check(cls, values: Mapping[str, object], name: str) -> Self:
        """The section that plain values make.

        Raises:
            ViewError: a key is missing or unknown, or a value is not one of those expected; one line, which begins with
                `name`.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            known = list(cls.model_fields)
            raise ViewError("; ".join(f"{name}: {_one_line(item, known)}" for item in error.errors())) from error


def _one_line(error: Mapping[str, object], known: list[str]) -> str:
    # For nested unions the location goes on with pydantic's names of branches; for a section as a whole it is empty.
    key = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}; it knows {', '.join(known)}{suggestion(key, known)}"
    if error["type"] == "missing":
        return f"{key} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    found = "" if error["type"] == "value_error" else f", got {error['input']!r}"
    return f"{key + ': ' if key else ''}{message[0].lower()}{message[1:]}{found}"
