"""What every corpus adapter promises.

An adapter knows one way in which people lay out recordings and their labels. It turns a section of `params.yaml` into
a stream of utterances, in an order that depends on the corpus alone. It knows no manifest and decodes no audio, unless
it has to know how long a recording is that it cuts: the `corpus` stage opens the files, hashes them and writes the
table.

A bad row or a missing file is yielded as a `Problem` and the stream goes on; only a corpus that cannot be read at all
raises. `tests/pipeline/corpora/test_contract.py` holds every adapter to this.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, StringConstraints, field_validator

from strata.pipeline.corpora.paths import normal

MANIFEST_COLUMNS = frozenset({"utterance", "audio", "content", "audio_content", "sampling_rate"})
"""Columns that the manifest fills in by itself, so that no label may be called so."""
SEGMENT_COLUMNS = frozenset({"start_s", "duration_s", "end_s"})
"""Columns that say which stretch of a file an utterance is: no labels either."""
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".m4a")
"""Extensions of recordings, those that lose nothing first."""


class CorpusError(ValueError):
    """A corpus that cannot be read at all: its message says what was expected, what was found and the next step."""


@dataclass(frozen=True)
class Utterance:
    """One labelled recording, or a stretch of one."""

    name: str
    """Unique within the corpus and the same on every run, whatever else the corpus holds; in Unicode's form NFC."""
    audio: Path
    """The file that holds it. It exists, but whether it can be decoded is for the stage to find out."""
    labels: Mapping[str, str | float | None] = field(default_factory=dict)
    """Label by column, with `speaker`, `split` and `transcript` where the corpus knows them; None: not labelled.

    Columns and texts are brought to Unicode's form NFC here, so that no word is two classes."""
    start_s: float = 0.0
    """Where it begins in the file, in seconds."""
    duration_s: float | None = None
    """How long it lasts, in seconds; None: to the end of the file."""

    def __post_init__(self):
        labels = {normal(c): normal(v) if isinstance(v, str) else v for c, v in self.labels.items()}
        object.__setattr__(self, "name", normal(self.name))
        object.__setattr__(self, "labels", labels)


@dataclass(frozen=True)
class Problem:
    """One listed recording that cannot become an utterance."""

    name: str
    """What the corpus calls it, or where it is listed when it has no name."""
    reason: str
    """One line, fit for a failures table."""
    audio: Path | None = None
    """The file that was looked for, where there is one."""

    def __post_init__(self):
        object.__setattr__(self, "reason", " ".join(self.reason.splitlines()))  # it may quote a cell of several lines


class CorpusSection(BaseModel):
    """What a corpus's section in `params.yaml` has in common with all others; each adapter adds its own options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    synthetic: ClassVar[bool] = False
    """Whether nobody ever said these utterances: whoever shows the corpus shows this too."""

    max_failed: float = Field(0.05, ge=0, le=1)
    """Share of unusable recordings past which the stage fails."""
    silence_dbfs: float = Field(-60.0, lt=0)
    """A recording whose peak is below this, in dB relative to full scale, is silent."""
    channel: Literal["left", "right"] | NonNegativeInt | None = None
    """The channel that is heard of recordings with several, `left` being 0 and `right` 1; None: the mean of all."""
    rename: dict[str, Annotated[str, StringConstraints(min_length=1)]] = {}
    """Label columns that enter the manifest under another name: from → to, so that corpora which call the same thing
    differently serve the same task."""
    adapter: str
    """Name of the adapter, one of `corpora.ADAPTERS`."""

    @field_validator("rename")
    @classmethod
    def _new_names_are_free(cls, rename: dict[str, str]) -> dict[str, str]:
        rename = {normal(old): normal(new) for old, new in rename.items()}
        for old, new in rename.items():
            if new in MANIFEST_COLUMNS | SEGMENT_COLUMNS:
                raise ValueError(
                    f"{old} cannot be called {new}, which the manifest fills in by itself; choose another name"
                )
            if clash := [other for other in rename if rename[other] == new and other != old]:
                raise ValueError(f"{old} and {clash[0]} cannot both be called {new}; choose another name for one")
        return rename

    def watched(self, folder: Path) -> Path | None:
        """The directory that the corpus reads and DVC does not see; None where the corpus makes its own audio.

        Args:
            folder: the study's folder, to which relative paths refer.
        """
        return None
