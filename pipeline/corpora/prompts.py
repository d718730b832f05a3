"""Recorded telephone prompts: real human speech that any Debian machine can install.

Reads what the packages `asterisk-core-sounds-*-wav` put below one directory,
`<language>_<country>_<f|m>_<speaker>/[<group>/]<prompt>.wav`: 8 kHz, one professional speaker per voice. With the
English, French and Italian packages that is 1,728 recordings of 0.2 to 73 s, 1.3 hours; any further voice found there
is read too. All labels come from the path. The packages carry no texts, so there are no transcripts.

Some recordings are no speech (`silence/`, a few tones), as in any found corpus.

Source: https://packages.debian.org/source/stable/asterisk-core-sounds
(English and French CC-BY-SA-3.0, Italian CC-BY-3.0)
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from strata.extractors.links import dangling
from strata.pipeline.corpora.contract import CorpusError, CorpusSection, Problem, Utterance
from strata.pipeline.corpora.paths import below

INSTALL = "apt-get install --no-install-recommends " + " ".join(
    f"asterisk-core-sounds-{language}-wav" for language in ("en", "fr", "it")
)
"""The command that installs the three voices."""

_VOICE = re.compile(r"(?P<language>[a-z]{2,3})_[A-Z]{2}_(?P<gender>[fm])_(?P<speaker>.+)")
_GENDERS = {"f": "female", "m": "male"}
_ITEM_GROUPS = frozenset({"digits", "letters"})


class Prompts(CorpusSection):
    """`{adapter: prompts}`."""

    adapter: Literal["prompts"] = "prompts"
    root: Path = Path("/usr/share/asterisk/sounds")
    """The directory of the voices; relative to the study's folder if it is not absolute."""

    def watched(self, folder: Path) -> Path:
        """The root, as it is on disk."""
        return below(folder, self.root)


def utterances(section: Prompts, folder: Path) -> Iterator[Utterance | Problem]:
    """All recordings of all voices, sorted by path.

    Labels: `speaker`, `language` (as in "en"), `gender`, `group` (the folder within the voice, else "prompt") and
    `item` (the file's name, where the group is "digits" or "letters").

    Raises:
        CorpusError: no voice is installed there.
    """
    root = section.watched(folder)
    voices = sorted(path for path in root.glob("*") if _VOICE.fullmatch(path.name))
    recordings = [(voice, audio) for voice in voices for audio in sorted(voice.rglob("*.wav"))]
    if not recordings:
        raise CorpusError(f"no recorded prompts under {root}; install some: {INSTALL}")
    for voice, audio in recordings:
        inside = audio.relative_to(voice)
        group = inside.parts[0] if len(inside.parts) > 1 else "prompt"
        traits = _VOICE.fullmatch(voice.name).groupdict()
        labels = {
            "speaker": traits["speaker"],
            "language": traits["language"],
            "gender": _GENDERS[traits["gender"]],
            "group": group,
            "item": audio.stem if group in _ITEM_GROUPS else None,
        }
        name = audio.relative_to(root).with_suffix("").as_posix()
        if audio.is_file():
            yield Utterance(name, audio, labels)
        else:
            yield Problem(name, dangling(audio) or "not a file, but a pipe, a device or the like", audio)
