"""TIMIT: 6,300 English sentences read by 630 speakers of eight American dialects, ten each.

Reads `<TRAIN or TEST>/<dialect>/<speaker>/<sentence>.WAV`, as in `TRAIN/DR1/FCJF0/SA1.WAV`, in any letter case,
wherever it lies below the root. The same sentences recur from speaker to speaker, so a recording is known by dialect,
speaker and sentence together. Its files are NIST SPHERE in spite of their names, which libsndfile decodes. Of a file
and a converted one beside it (`SA1.WAV.wav`), as in some copies, the first counts.

What was said stands beside each recording (`SA1.TXT`: first and last sample, then the text). Birth dates stand in
`SPKRINFO.TXT`, which copies often lack: then the age is missing, and a line says so. A date that is unknown (`??`)
leaves that speaker's age missing.

The two SA sentences are the same for everybody, in training and test: who trains a recogniser leaves them out, by the
label `sentence_type`. SX sentences (compact) are read by seven speakers each, SI (diverse) by one. TIMIT has no
validation set.

Source: https://catalog.ldc.upenn.edu/LDC93S1 (LDC's user agreement); Garofolo et al., "DARPA TIMIT acoustic-phonetic
continuous speech corpus", NIST (1993).
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Literal

from strata.pipeline.corpora import tree
from strata.pipeline.corpora.contract import Problem, Utterance
from strata.pipeline.corpora.rooted import Found, look_into
from strata.pipeline.progress import counted, say

SOURCE = "https://catalog.ldc.upenn.edu/LDC93S1"
"""Where the corpus can be had."""
TABLES = ("SPKRINFO.TXT", "SPKRINFO.DOC")
"""One row per speaker; called by either name."""

DIALECTS = {
    "DR1": "New England",
    "DR2": "Northern",
    "DR3": "North Midland",
    "DR4": "South Midland",
    "DR5": "Southern",
    "DR6": "New York City",
    "DR7": "Western",
    "DR8": "Army Brat",  # moved around as a child
}
GENDERS = {"F": "female", "M": "male"}
SPLITS = {"TRAIN": "train", "TEST": "test"}

_NAME = re.compile(r"(?P<dialect>DR[0-9]+)/(?P<speaker>[FM][A-Z]{3}[0-9])/(?P<type>SA|SI|SX)[0-9]+")
_TEXT = re.compile(r"\s*[0-9]+\s+[0-9]+\s+(.*\S)\s*")
_ROW = re.compile(
    r"\s*(?P<initials>[A-Z]{3}[0-9])\s+(?P<sex>[FM])\s+\S+\s+\S+\s+(?P<recorded>\S+)\s+(?P<born>\S+).*", re.I
)
_DATE = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{2})")  # month, day, year of the century
_OLDEST = 120.0  # years; a greater age, or none, is a slip of the table


class Timit(tree.Tree):
    """`{adapter: timit, root: ../timit}`."""

    adapter: Literal["timit"] = "timit"


def utterances(section: Timit, folder: Path) -> Iterator[Utterance | Problem]:
    """All recordings, sorted by name (as in "DR1/FCJF0/SA1").

    Labels: `speaker` (as in "timit/FCJF0"), `split` (train, test; missing outside of folders called so), `transcript`,
    `sentence_type` (SA, SI, SX), `dialect`, `gender` and `age` (in years, on the day of the recording).

    Raises:
        CorpusError: no usable recording below the root.
    """
    found = look_into(section, folder)
    files = {str(path).lower(): path for path in found.files}
    # Of SA1.WAV and SA1.WAV.wav the second is a copy.
    originals = [p for p in found.files if not _is_double(p) or str(p.with_suffix("")).lower() not in files]
    ages = _ages(section, found)

    def meaning(path: Path) -> tuple[str, tree.Labels]:
        split, dialect, speaker, file = tree.innermost(path, 4)
        sentence = file.split(".")[0]
        name = f"{dialect}/{speaker}/{sentence}".upper()
        fields = _NAME.fullmatch(name)
        if not fields:
            raise tree.Unusable("not named <dialect>/<speaker>/<sentence>, as in DR1/FCJF0/SA1")
        text = files.get(str(path.with_name(f"{sentence}.txt")).lower())
        return name, {
            "speaker": f"timit/{fields['speaker']}",
            "split": SPLITS.get(split.upper()),
            "transcript": text and _transcript(section, found, text),
            "sentence_type": fields["type"],
            "dialect": tree.code(DIALECTS, "dialect", fields["dialect"]),
            "gender": GENDERS[fields["speaker"][0]],
            "age": (ages or {}).get(fields["speaker"]),
        }

    found = replace(found, files=originals)
    items = tree.read_paths(section, found, meaning, "TRAIN/DR1/FCJF0/SA1.WAV", f"TIMIT ({SOURCE})")
    heard = [item for item in items if isinstance(item, Utterance)]
    if untold := [item.name for item in heard if item.labels["transcript"] is None]:
        say(f"{found.root}: {counted(len(untold), 'recording')} without a text beside it, the first {untold[0]}")
    if ages is not None:
        speakers = {item.labels["speaker"].removeprefix("timit/") for item in heard}
        tree.mention_unknown(speakers, ages.keys(), TABLES[0], lacking="no age")
    yield from items


def _is_double(path: Path) -> bool:
    return path.with_suffix("").suffix.lower() == path.suffix.lower() == ".wav"


def _transcript(section: Timit, found: Found, path: Path) -> str | None:
    """The text in a file; None where there is none that can be read."""
    try:
        fields = _TEXT.fullmatch(tree.lines(section, found, path)[0])
    except tree.Unusable:
        return None
    return fields and fields[1]


def _ages(section: Timit, found: Found) -> dict[str, float | None] | None:
    """Age of each speaker that the table has, None where a date is unknown or cannot be right.

    None instead where there is no table, which has been said.
    """
    table = tree.table(section, found, TABLES, f"utterances have no age; put TIMIT's own table into {found.root}")
    if not table:
        return None
    fields = [_ROW.fullmatch(row) for row in table if not row.startswith(";")]
    rows = [(f"{row['sex']}{row['initials']}".upper(), row["recorded"], row["born"]) for row in fields if row]
    ages = [(speaker, _age(recorded, born)) for speaker, recorded, born in rows]
    given = [row for row, (_, age) in zip(rows, ages, strict=True) if age is None and "?" not in row[1] + row[2]]
    if given:
        speaker, recorded, born = given[0]
        say(
            f"{TABLES[0]}: {len(given)} ages cannot be told from the dates, the first that of {speaker}, "
            f"born {born} and recorded {recorded}; they are left missing"
        )
    return tree.agreed(ages, TABLES[0])


def _age(recorded: str, born: str) -> float | None:
    """Years between two dates; None where one of them is none, or they are in the wrong order."""
    try:
        then, birth = (
            date(1900 + int(year), int(month), int(day))
            for month, day, year in (_DATE.fullmatch(each).groups() for each in (recorded, born))
        )
    except (AttributeError, ValueError):  # not written as a date; or no day of any calendar
        return None
    years = (then - birth).days / 365.25
    return years if 0 < years < _OLDEST else None
