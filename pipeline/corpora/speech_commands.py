"""Speech Commands: English keywords of about a second, said by some 2,600 volunteers into their own microphones.

Version 0.01 has 64,721 recordings of 30 words, version 0.02 105,829 of 35. Reads `<word>/<speaker>_nohash_<n>.wav`, as
in `yes/004ae714_nohash_0.wav`, wherever the folders of words lie below the root. The same file name occurs in the
folders of several words, so a recording is known by both. The noises in `_background_noise_` are nobody's words and
are passed over. Who trains on both versions gives them as two corpora: they have recordings in common.

`validation_list.txt` and `testing_list.txt` say which recordings validate and test; all others train. Without them the
split follows the rule by which they were made: a hash of the speaker, ten per cent each. Either way a speaker is on
one side only.

Source: http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz and …_v0.02.tar.gz (CC BY 4.0); Warden, "Speech
Commands: a dataset for limited-vocabulary speech recognition", arXiv 1804.03209 (2018), also for the rule.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pipeline.corpora import tree
from pipeline.corpora.contract import Problem, Utterance
from pipeline.corpora.paths import slashed
from pipeline.corpora.rooted import Found, look_into
from pipeline.progress import say

SOURCE = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
"""Where the corpus can be had."""
NOISES = "_background_noise_"
"""Folder of recordings without words."""
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
"""Table of each split; what is in neither is for training."""

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
OTHERS = ("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow")
ADDED = ("backward", "follow", "forward", "learn", "visual")
"""Words that version 0.01 lacks."""
WORDS = {word: word for word in COMMANDS + DIGITS + OTHERS + ADDED}
"""By their folders, which are called like them."""

_NAME = re.compile(r"(?P<speaker>[0-9a-f]{8})_nohash_[0-9]+")
_BUCKETS = 1 << 27  # of the published rule, which takes the greatest bucket for 100 %


class SpeechCommands(tree.Tree):
    """`{adapter: speech-commands, root: ../speech_commands_v0.01}`."""

    adapter: Literal["speech-commands"] = "speech-commands"


def utterances(section: SpeechCommands, folder: Path) -> Iterator[Utterance | Problem]:
    """All recordings, sorted by name (as in "yes/004ae714_nohash_0").

    Labels: `speaker` (as in "speech-commands/004ae714"), `split` (train, validation, test), `transcript` and `keyword`
    (the same: one word is said).

    Raises:
        CorpusError: no usable recording below the root.
    """
    found = look_into(section, folder)
    found = replace(found, files=[path for path in found.files if path.parent.name != NOISES])
    listed = _listed(section, found)

    def meaning(path: Path) -> tuple[str, tree.Labels]:
        fields = _NAME.fullmatch(path.stem)
        if not fields:
            raise tree.Unusable("not named <word>/<speaker>_nohash_<number>, as in yes/004ae714_nohash_0")
        word = tree.code(WORDS, "word", tree.innermost(path, 2)[0])
        name, speaker = f"{word}/{path.stem}", fields["speaker"]
        return name, {
            "speaker": f"speech-commands/{speaker}",
            "split": split_of(speaker) if listed is None else listed.get(name, "train"),
            "transcript": word,
            "keyword": word,
        }

    example = "yes/004ae714_nohash_0.wav"
    items = tree.read_paths(section, found, meaning, example, f"Speech Commands ({SOURCE})")
    if absent := sorted((listed or {}).keys() - {item.name for item in items if isinstance(item, Utterance)}):
        say(f"{found.root}: its lists name {len(absent)} recordings that it lacks, the first {absent[0]}")
    yield from items


def split_of(speaker: str) -> str:
    """The split that the corpus's rule gives to all recordings of a speaker: train, validation or test."""
    bucket = int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16) % _BUCKETS
    percent = bucket * (100 / (_BUCKETS - 1))
    return "validation" if percent < 10 else "test" if percent < 20 else "train"


def _listed(section: SpeechCommands, found: Found) -> dict[str, str | None] | None:
    """Split by the names on the lists, None where they contradict each other; None instead if a list is missing."""
    splits: dict[str, str | None] = {}
    for split, table in LISTS.items():
        rows = tree.table(section, found, (table,), "the split follows the corpus's rule, a hash of the speaker")
        if not rows:
            return None
        for name in {slashed(row.strip()).removesuffix(".wav") for row in rows} - {""}:
            splits[name] = None if name in splits else split
    if doubtful := sorted(name for name, split in splits.items() if split is None):
        say(f"{found.root}: {len(doubtful)} recordings are on both lists, the first {doubtful[0]}; they have no split")
    return splits
