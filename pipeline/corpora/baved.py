"""BAVED: 1,935 recordings of 61 speakers, seven Arabic words at three levels of emotion.

Reads `<speaker>-<gender>-<age>-<word>-<emotion>-<record>.wav`, as in `0/25-m-19-0-2-126.wav`, wherever it lies below
the root (the repository has a folder per word). All labels come from the name; the words are spelt as the corpus's
description spells them. A name whose age is no number has no age.

Its level 0 is low emotion (tired or down), 1 neutral (as the speaker speaks daily), 2 high (happiness, joy, sadness,
anger, …), in the words of that description.

Source: https://github.com/40uf411/Basic-Arabic-Vocal-Emotions-Dataset (Aouf, 2019)
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from strata.pipeline.corpora import tree
from strata.pipeline.corpora.contract import Problem, Utterance
from strata.pipeline.corpora.rooted import look_into

SOURCE = "https://github.com/40uf411/Basic-Arabic-Vocal-Emotions-Dataset"
"""Where the corpus can be had."""

WORDS = {
    "0": "اعجبني",
    "1": "لم يعجبني",
    "2": "هذا",
    "3": "الفيلم",
    "4": "رائع",
    "5": "مقول",
    "6": "سيئ",
}
EMOTIONS = {"0": "low", "1": "neutral", "2": "high"}
GENDERS = {"f": "female", "m": "male"}

_NAME = re.compile(
    r"(?P<speaker>[0-9]+)-(?P<gender>[^-]+)-(?P<age>[^-]*)-(?P<word>[^-]+)-(?P<emotion>[^-]+)-(?P<record>[0-9]+)"
)
_AGE = re.compile(r"[0-9]*[1-9][0-9]*")


class Baved(tree.Tree):
    """`{adapter: baved, root: ../Basic-Arabic-Vocal-Emotions-Dataset}`."""

    adapter: Literal["baved"] = "baved"


def utterances(section: Baved, folder: Path) -> Iterator[Utterance | Problem]:
    """All recordings, sorted by name.

    Labels: `speaker` (as in "baved/25"), `transcript` and `word` (the same: one word is said), `emotion` (low, neutral,
    high), `level` (0 to 2, the same as a number), `gender` and `age` (in years).

    Raises:
        CorpusError: no usable recording below the root.
    """
    found = look_into(section, folder)
    yield from tree.read(section, found, _labels, "0/25-m-19-0-2-126.wav", f"BAVED ({SOURCE})")


def _labels(name: str) -> dict[str, str | float | None]:
    fields = _NAME.fullmatch(name)
    if not fields:
        raise tree.Unusable("not named <speaker>-<gender>-<age>-<word>-<emotion>-<record>, as in 25-m-19-0-2-126")
    word = tree.code(WORDS, "word", fields["word"])
    return {
        "speaker": f"baved/{fields['speaker']}",
        "transcript": word,
        "word": word,
        "emotion": tree.code(EMOTIONS, "emotion", fields["emotion"]),
        "level": float(fields["emotion"]),
        "gender": tree.code(GENDERS, "gender", fields["gender"]),
        "age": float(fields["age"]) if _AGE.fullmatch(fields["age"]) else None,
    }
