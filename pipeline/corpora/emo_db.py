"""emo-DB, the Berlin database of emotional speech: 535 recordings of ten actors, ten German texts in seven emotions.

Reads `<speaker><text><emotion><version>.wav`, as in `wav/03a01Fa.wav`, wherever it lies below the root. The emotion is
the first letter of its German name; the version may be missing, since only texts said several times have one. Ages
and genders of the ten speakers are those of the corpus's description; a speaker that it does not have lacks both.

Source: http://emodb.bilderbar.info/docu/ (speakers, texts, codes); Burkhardt et al., "A database of German emotional
speech", Interspeech 2005.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from strata.pipeline.corpora import tree
from strata.pipeline.corpora.contract import Problem, Utterance
from strata.pipeline.corpora.rooted import look_into

SOURCE = "http://emodb.bilderbar.info"
"""Where the corpus can be had."""

TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
EMOTIONS = {
    "W": "anger",  # Wut, Ärger
    "L": "boredom",  # Langeweile
    "E": "disgust",  # Ekel
    "A": "fear",  # Angst
    "F": "happiness",  # Freude
    "T": "sadness",  # Trauer
    "N": "neutral",
}
SPEAKERS = {
    "03": ("male", 31.0),
    "08": ("female", 34.0),
    "09": ("female", 21.0),
    "10": ("male", 32.0),
    "11": ("male", 26.0),
    "12": ("male", 30.0),
    "13": ("female", 32.0),
    "14": ("female", 35.0),
    "15": ("male", 25.0),
    "16": ("female", 31.0),
}
"""Gender, and age in years."""

_NAME = re.compile(r"(?P<speaker>[0-9]{2})(?P<text>[a-z][0-9]{2})(?P<emotion>[A-Z])(?P<version>[a-z]?)")


class EmoDB(tree.Tree):
    """`{adapter: emo-db, root: ../emodb}`."""

    adapter: Literal["emo-db"] = "emo-db"


def utterances(section: EmoDB, folder: Path) -> Iterator[Utterance | Problem]:
    """All recordings, sorted by name.

    Labels: `speaker` (as in "emo-db/03"), `transcript`, `emotion`, `version`, `gender` and `age` (in years).

    Raises:
        CorpusError: no usable recording below the root.
    """
    found = look_into(section, folder)
    items = tree.read(section, found, _labels, "wav/03a01Fa.wav", f"emo-DB ({SOURCE})")
    heard = {item.labels["speaker"] for item in items if isinstance(item, Utterance)}
    tree.mention_unknown(heard, {f"emo-db/{speaker}" for speaker in SPEAKERS}, "emo-DB's list of speakers")
    yield from items


def _labels(name: str) -> dict[str, str | float | None]:
    fields = _NAME.fullmatch(name)
    if not fields:
        raise tree.Unusable("not named <speaker><text><emotion><version>, as in 03a01Fa")
    gender, age = SPEAKERS.get(fields["speaker"], (None, None))
    return {
        "speaker": f"emo-db/{fields['speaker']}",
        "transcript": tree.code(TEXTS, "text", fields["text"]),
        "emotion": tree.code(EMOTIONS, "emotion", fields["emotion"]),
        "version": fields["version"] or None,
        "gender": gender,
        "age": age,
    }
