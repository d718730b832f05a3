"""Speech Commands: English keywords of about a second, said by some 2,600 volunteers into their own microphones.

Version 0.01 has 64,721 recordings of 30 words, version 0.02 105,829 of 35. Reads `<word>/<speaker>_nohash_<n>.wav`, as
in `yes/004ae714_nohash_0.wav`, wherever the folders of words lie below the root. The same file name occurs in the
folders of several words, so a recording is known by both. Who trains on both versions gives them as two corpora: they
have recordings in common.

`classes: all` is the task of all words; what is nobody's word (`_background_noise_`, `_silence_`) is passed over.
`classes: twelve` is that of the published results: ten commands keep their names, every other word is `_unknown_`, and
`_silence_` is what lies in a folder of this name and every whole second of `_background_noise_`, none overlapping
another. Of these noises `running_tap` validates, as in the data sets of TensorFlow and Hugging Face, and
`doing_the_dishes` tests; the others train. A noise is never on two sides.

The published test sets of twelve classes (`speech_commands_test_set_v0.02.tar.gz`, about 400 recordings each) are read
too, and best as a corpus of their own: their words are those of `testing_list.txt` again. There other words lie in
`_unknown_`, as in `_unknown_/bed_0c40e715_nohash_0.wav`, and are called as elsewhere (`bed/0c40e715_nohash_0`).

`validation_list.txt` and `testing_list.txt` say which recordings validate and test; all others train. Without them the
split follows the rule by which they were made: a hash of the speaker, ten per cent each. Either way a speaker is on
one side only.

Source: http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz and …_v0.02.tar.gz (CC BY 4.0); Warden, "Speech
Commands: a dataset for limited-vocabulary speech recognition", arXiv 1804.03209 (2018), also for the rule.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from strata.pipeline.corpora import tree
from strata.pipeline.corpora.contract import AUDIO_SUFFIXES, Problem, Utterance
from strata.pipeline.corpora.paths import Lookup, OutsideRoot, slashed
from strata.pipeline.corpora.rooted import Found, look_into
from strata.pipeline.progress import counted, say

SOURCE = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
"""Where the corpus can be had."""
NOISES = "_background_noise_"
"""Folder of recordings without words."""
SILENCE = "_silence_"
"""Class of what has no word, and folder of it in a test set."""
UNKNOWN = "_unknown_"
"""Class of the words that are no command, and folder of them in a test set."""
NOISE_SPLITS = {"running_tap": "validation", "doing_the_dishes": "test"}
"""Of the noises; the others are for training."""
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
_UNKNOWN_NAME = re.compile(r"(?P<word>[a-z]+)_(?P<name>[0-9a-f]{8}_nohash_[0-9]+)")
_BUCKETS = 1 << 27  # of the published rule, which takes the greatest bucket for 100 %


class SpeechCommands(tree.Tree):
    """`{adapter: speech-commands, root: ../speech_commands_v0.01}`."""

    adapter: Literal["speech-commands"] = "speech-commands"
    classes: Literal["all", "twelve"] = "all"
    """Whether `keyword` has all words, or ten commands, `_unknown_` and `_silence_`, of which most results are told."""


def utterances(section: SpeechCommands, folder: Path) -> Iterator[Utterance | Problem]:
    """All recordings, sorted by name (as in "yes/004ae714_nohash_0"), then the seconds of noise, if they are wanted.

    Labels: `speaker` (as in "speech-commands/004ae714"), `split` (train, validation, test), `transcript` (the word) and
    `keyword` (the same, or one of the twelve classes). What has no word has neither speaker nor transcript.

    Raises:
        CorpusError: no usable recording below the root.
    """
    found = look_into(section, folder)
    recordings = [path for path in found.files if path.suffix.lower() in AUDIO_SUFFIXES]
    noises = [path for path in recordings if path.parent.name == NOISES]
    silences = [path for path in recordings if path.parent.name == SILENCE]
    words = replace(found, files=[path for path in found.files if path.parent.name not in (NOISES, SILENCE)])
    listed = _listed(section, words)

    def meaning(path: Path) -> tuple[str, tree.Labels]:
        word, name = _word_and_name(path)
        fields = _NAME.fullmatch(name)
        if not fields:
            raise tree.Unusable("not named <word>/<speaker>_nohash_<number>, as in yes/004ae714_nohash_0")
        tree.code(WORDS, "word", word)
        name, speaker = f"{word}/{name}", fields["speaker"]
        return name, {
            "speaker": f"speech-commands/{speaker}",
            "split": split_of(speaker) if listed is None else listed.get(name, "train"),
            "transcript": word,
            "keyword": word if section.classes == "all" or word in COMMANDS else UNKNOWN,
        }

    example = "yes/004ae714_nohash_0.wav"
    items = tree.read_paths(section, words, meaning, example, f"Speech Commands ({SOURCE})")
    if absent := sorted((listed or {}).keys() - {item.name for item in items if isinstance(item, Utterance)}):
        nearest = Lookup(found.root, recordings).nearest(found.root / f"{absent[0]}.wav")
        hint = f"; the nearest there is {nearest}" if nearest else ""
        lacking = counted(len(absent), "recording")
        say(f"{found.root}: its lists name {lacking} that it lacks, the first {absent[0]}{hint}")
    yield from items
    if section.classes == "twelve":
        if not noises and not silences:
            say(f"no {NOISES} and no {SILENCE} under {found.root}: nothing is of the class {SILENCE}; copy one there")
        yield from _silence(section, found, silences)
        yield from _seconds_of_noise(section, found, noises)


def _word_and_name(path: Path) -> tuple[str, str]:
    """The word that is said in a recording, and what it is called in the folder of that word."""
    folder = tree.innermost(path, 2)[0]
    if folder == UNKNOWN and (fields := _UNKNOWN_NAME.fullmatch(path.stem)):
        return fields["word"], fields["name"]
    return folder, path.stem


def _silence(section: SpeechCommands, found: Found, recordings: Sequence[Path]) -> list[Utterance | Problem]:
    """What a test set has of no word, to test with."""
    if not recordings:
        return []

    def meaning(path: Path) -> tuple[str, tree.Labels]:
        return f"{SILENCE}/{path.stem}", _labels_of_silence("test")

    return tree.read_paths(
        section, Found(found.root, list(recordings)), meaning, f"{SILENCE}/0.wav", f"Speech Commands ({SOURCE})"
    )


def _seconds_of_noise(
    section: SpeechCommands, found: Found, recordings: Sequence[Path]
) -> Iterator[Utterance | Problem]:
    """Every whole second of the noises; what is left at the end of one is too short for an utterance."""
    # Nothing else here opens audio, and most corpora have no noises.
    from strata.extractors import UnusableAudio, audio

    seen: dict[str, Path] = {}
    for path in recordings:
        where = found.inside(path)
        try:
            first = seen.setdefault(path.stem, path)
            if first != path:
                raise tree.Unusable(f"the same noise as {found.inside(first)}, which counts")
            tree.check(section, found.root, path)
            seconds = int(audio.inspect(path).duration_s)
            if seconds == 0:
                raise tree.Unusable("shorter than a second")
        except (tree.Unusable, OutsideRoot, UnusableAudio) as error:
            yield Problem(where, str(error), path)
            continue
        labels = _labels_of_silence(NOISE_SPLITS.get(path.stem, "train"))
        for second in range(seconds):
            yield Utterance(f"{SILENCE}/{path.stem}#{float(second)}+1.0", path, labels, float(second), 1.0)


def _labels_of_silence(split: str) -> tree.Labels:
    return {"speaker": None, "split": split, "transcript": None, "keyword": SILENCE}


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
        both = counted(len(doubtful), "recording")
        say(f"{found.root}: {both} on both lists, the first {doubtful[0]}, of which none has a split")
    return splits
