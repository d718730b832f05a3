"""IEMOCAP: 10,039 utterances of ten actors in five sessions of two, about twelve hours, improvised and from scripts.

Reads `<dialogue>_<F or M><number>.wav`, as in `Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav`, wherever
it lies below the root. Who speaks is told by the letter before the number; that after the session is of the actor who
wore the markers. Recordings of whole dialogues (`dialog/wav`) are passed over.

What was said and felt stands in one table per dialogue, known by the names of their folders: `transcriptions/*.txt` and
`EmoEvaluation/*.txt`. Utterances that they lack have neither text nor emotion, which is said. An emotion on which the
annotators do not agree (`xxx`) is missing.

`classes: four` labels as most of the literature does: anger (1,103), happiness with excitement (1,636), sadness (1,084)
and neutral (1,708), 5,531 utterances. All others stay, without an emotion and with their valence, activation and
dominance.

The corpus names no split. Here sessions 1 to 3 are for training, 4 for validation and 5 for testing, so that no actor
is on two sides; five folds are `folds: {k: 5, disjoint: session}`.

Source: https://sail.usc.edu/iemocap/ (for academic research, on its release form); Busso et al., "IEMOCAP: interactive
emotional dyadic motion capture database", Language Resources and Evaluation 42 (2008).
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from strata.pipeline.corpora import tree
from strata.pipeline.corpora.contract import AUDIO_SUFFIXES, Problem, Utterance
from strata.pipeline.corpora.rooted import Found, look_into
from strata.pipeline.progress import say

SOURCE = "https://sail.usc.edu/iemocap/"
"""Where the corpus can be had."""
EVALUATIONS = "EmoEvaluation"
"""Folder of the tables of emotions."""
TRANSCRIPTS = "transcriptions"
"""Folder of the tables of texts."""

EMOTIONS = {
    "ang": "anger",
    "dis": "disgust",
    "exc": "excitement",
    "fea": "fear",
    "fru": "frustration",
    "hap": "happiness",
    "neu": "neutral",
    "oth": "other",
    "sad": "sadness",
    "sur": "surprise",
    "xxx": None,
}
"""None: no agreement."""
FOUR = {
    "anger": "anger",
    "excitement": "happiness",
    "happiness": "happiness",
    "neutral": "neutral",
    "sadness": "sadness",
}
"""What becomes of an emotion with `classes: four`; the others are missing."""
SESSIONS = {f"0{number}": str(number) for number in range(1, 6)}
SPLITS = {"4": "validation", "5": "test"}
"""Of the sessions; the others are for training."""
STYLES = {"impro": "spontaneous", "script": "acted"}
GENDERS = {"F": "female", "M": "male"}

_DIALOGUE = r"Ses(?P<session>[0-9]{2})[FM]_(?P<style>[a-z]+)[0-9]{2}[a-z]?(?:_[0-9][a-z]?)?"  # Ses05M_script01_1b
_NAME = re.compile(_DIALOGUE + r"_(?P<gender>[FM])[0-9]{3}")
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_EVALUATION = re.compile(rf"\[[^\]]*\]\s+(\S+)\s+(\w+)\s+\[{_NUMBER},\s*{_NUMBER},\s*{_NUMBER}\]\s*")
_TRANSCRIPT = re.compile(r"(\S+)\s+\[[0-9. -]+\]:\s*(.*\S)\s*")


class Iemocap(tree.Tree):
    """`{adapter: iemocap, root: ../IEMOCAP_full_release}`."""

    adapter: Literal["iemocap"] = "iemocap"
    classes: Literal["all", "four"] = "all"
    """Whether `emotion` has all ten emotions, or the four of which most results are told."""


def utterances(section: Iemocap, folder: Path) -> Iterator[Utterance | Problem]:
    """All recordings, sorted by name.

    Labels: `speaker` (as in "iemocap/Ses01_F"), `split`, `transcript`, `emotion`, `valence`, `activation` and
    `dominance` (means of the annotators, 1 to 5), `gender`, `session` ("1" to "5") and `style` (spontaneous, acted).

    Raises:
        CorpusError: no usable recording below the root.
    """
    found = look_into(section, folder)
    found = replace(found, files=[path for path in found.files if not _is_dialogue(path)])
    evaluations = _rows(section, found, EVALUATIONS, _EVALUATION, "no emotion, valence, activation and dominance")
    transcripts = _rows(section, found, TRANSCRIPTS, _TRANSCRIPT, "no transcript")
    if wrong := sorted(name for name, row in evaluations.items() if row[0] not in EMOTIONS):
        say(f"{EVALUATIONS}: {len(wrong)} emotions are none of {', '.join(EMOTIONS)}, the first that of {wrong[0]}")

    def labels(name: str) -> tree.Labels:
        fields = _NAME.fullmatch(name)
        if not fields:
            raise tree.Unusable("not named <dialogue>_<F or M><number>, as in Ses01F_impro01_F000")
        session = tree.code(SESSIONS, "session", fields["session"])
        felt, *dimensions = evaluations.get(name, (None, None, None, None))
        emotion = EMOTIONS.get(felt)
        valence, activation, dominance = (None if value is None else float(value) for value in dimensions)
        return {
            "speaker": f"iemocap/Ses{fields['session']}_{fields['gender']}",
            "split": SPLITS.get(session, "train"),
            "transcript": transcripts.get(name, (None,))[0],
            "emotion": FOUR.get(emotion) if section.classes == "four" else emotion,
            "valence": valence,
            "activation": activation,
            "dominance": dominance,
            "gender": GENDERS[fields["gender"]],
            "session": session,
            "style": tree.code(STYLES, "style", fields["style"]),
        }

    items = tree.read(section, found, labels, "Ses01F_impro01_F000.wav", f"IEMOCAP ({SOURCE})")
    names = {item.name for item in items if isinstance(item, Utterance)}
    if evaluations:
        tree.mention_unknown(names, evaluations.keys(), EVALUATIONS, "recordings", "no emotion")
    if transcripts:
        tree.mention_unknown(names, transcripts.keys(), TRANSCRIPTS, "recordings", "no transcript")
    yield from items


def _is_dialogue(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES and bool(re.fullmatch(_DIALOGUE, path.stem))


def _rows(section: Iemocap, found: Found, kind: str, row: re.Pattern, lacking: str) -> dict[str, tuple[str, ...]]:
    """The rows of all tables of a kind, by utterance; empty where there is none, which is said.

    Only the tables' own folder counts: others (`MOCAP_head`, …) have files of the same names.
    """
    tables = [
        path for path in found.files if path.suffix.lower() == ".txt" and path.parent.name.lower() == kind.lower()
    ]
    rows, unusable = [], []
    for path in tables:
        try:
            fields = [row.fullmatch(line) for line in tree.lines(section, found, path)]
        except tree.Unusable as error:
            unusable.append(f"{found.inside(path)} ({error})")
        else:
            rows += [(each[1], each.groups()[1:]) for each in fields if each]
    if unusable:
        say(f"{kind}: {len(unusable)} tables cannot be used, the first {unusable[0]}")
    if not rows:
        say(
            f"no {kind}/*.txt with a row under {found.root}: utterances have {lacking}; "
            f"copy these tables from IEMOCAP's own release ({SOURCE})"
        )
    return tree.agreed(rows, kind)
