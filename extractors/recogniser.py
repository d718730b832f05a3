"""A recogniser: what the `transcribe` section of params says about one, checked before anything is loaded.

Beside `extractors.view`, which does the same for views. Knows nothing of the checkpoint: whether it speaks a language
is for the recogniser to say.
"""

from collections.abc import Mapping

from pydantic import Field

from strata.extractors.contract import ViewError
from strata.extractors.section import Section


class RecogniserSection(Section):
    """Whisper, as transformers has it."""

    source: str
    """Hub id, local directory, or `miniature:whisper`."""
    revision: str | None = None
    """Branch, tag or commit of a hub source; None means its main branch."""
    corpora: tuple[str, ...] = ()
    """Those whose recordings are transcribed; all where none is named. No part of what a text follows from."""
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
    return RecogniserSection.check(section, "recogniser")
