"""A recogniser: what the `transcribe` section of params says about one, checked before anything is loaded.

Beside `extractors.view`, which does the same for views. Knows nothing of the checkpoint: whether it speaks a language
is for the recogniser to say.
"""

from collections.abc import Mapping
from difflib import get_close_matches

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from extractors.contract import ViewError


class RecogniserSection(BaseModel):
    """Whisper, as transformers has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    """Hub id, local directory, or `miniature:whisper`."""
    revision: str | None = None
    """Branch, tag or commit of a hub source; None means its main branch."""
    language: str | None = None
    """Spoken in all recordings: `it` or `italian`; None lets a multilingual model tell from the first 30 s of each."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Most tokens that are said of one window; None is all that the checkpoint allows."""
    num_beams: int = Field(default=1, ge=1)
    """Hypotheses followed at the same time; 1 is greedy."""
    window_s: float | None = Field(default=None, ge=1.0, le=30.0)
    """Cuts longer audio into windows of at most so many seconds, each transcribed by itself. None follows Whisper's own
    way through audio of more than 30 s, from one time that it tells to the next."""


def parse(section: Mapping[str, object] | RecogniserSection) -> RecogniserSection:
    """Checks a recogniser's section.

    Args:
        section: as a plain mapping; one that was checked before is passed on.

    Raises:
        ViewError: a key is missing or unknown, or a value is not one of those expected; one line, naming the key.
    """
    if isinstance(section, RecogniserSection):
        return section
    if not isinstance(section, Mapping):
        raise ViewError(f"expected a recogniser as a mapping with the key source, got {section!r}")
    try:
        return RecogniserSection.model_validate(dict(section))
    except ValidationError as error:
        raise ViewError("; ".join(map(_one_line, error.errors()))) from error


def _one_line(error: Mapping[str, object]) -> str:
    key = str(error["loc"][0])
    if error["type"] == "missing":
        return f"recogniser: {key} is missing"
    if error["type"] == "extra_forbidden":
        known = list(RecogniserSection.model_fields)
        close = get_close_matches(key, known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"recogniser: unknown key {key!r}; it knows {', '.join(known)}{hint}"
    message = str(error["msg"])
    return f"recogniser: {key}: {message[0].lower()}{message[1:]}, got {error['input']!r}"
