"""CREMA-D: 7,442 recordings of 91 actors, twelve English sentences in six emotions.

Reads `<actor>_<sentence>_<emotion>_<intensity>.wav`, as in `AudioWAV/1001_DFA_ANG_XX.wav`, wherever it lies below the
root: the repository's checkout or a copy that has the recordings alone. Ages and genders stand in the repository's
`VideoDemographics.csv`, which such copies often lack: then both are missing, and a line says where to get it. A cell
that is no age or no sex, and rows that contradict each other, leave that label missing, which is said too.

Some intensities are not specified (`XX`; `X` in `1040_ITH_SAD_X.wav`): missing. One recording
(`1076_MTI_SAD_XX.wav`) is silent; what a file holds is for the stage to find out.

Source: https://github.com/CheyneyComputerScience/CREMA-D (Open Database License 1.0); Cao et al., "CREMA-D:
Crowd-sourced emotional multimodal actors dataset", IEEE Transactions on Affective Computing 5 (2014), also for
the sentences.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from strata.pipeline.corpora import tree
from strata.pipeline.corpora.contract import Problem, Utterance
from strata.pipeline.corpora.paths import OutsideRoot, follow
from strata.pipeline.corpora.rooted import Found, look_into
from strata.pipeline.progress import say

SOURCE = "https://github.com/CheyneyComputerScience/CREMA-D"
"""Where the corpus and its table can be had."""
TABLE = "VideoDemographics.csv"
"""One row per actor."""

SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": None, "X": None}
"""None: not specified."""
GENDERS = frozenset({"female", "male"})

_NAME = re.compile(r"(?P<actor>[0-9]{4})_(?P<sentence>[^_]+)_(?P<emotion>[^_]+)_(?P<intensity>[^_]+)")
_AGE = re.compile(r"[0-9]+(?:\.[0-9]+)?")


class CremaD(tree.Tree):
    """`{adapter: crema-d, root: ../CREMA-D}`."""

    adapter: Literal["crema-d"] = "crema-d"


class Actor(NamedTuple):
    """What the table says of an actor; None: nothing that can be used."""

    age: float | None = None
    gender: str | None = None


def utterances(section: CremaD, folder: Path) -> Iterator[Utterance | Problem]:
    """All recordings, sorted by name.

    Labels: `speaker` (as in "crema-d/1001"), `transcript`, `emotion`, `intensity` (low, medium, high), `gender` and
    `age` (in years).

    Raises:
        CorpusError: no usable recording below the root.
    """
    found = look_into(section, folder)
    actors = _actors(section, found)

    def labels(name: str) -> dict[str, str | float | None]:
        fields = _NAME.fullmatch(name)
        if not fields:
            raise tree.Unusable("not named <actor>_<sentence>_<emotion>_<intensity>, as in 1001_DFA_ANG_XX")
        actor = actors.get(fields["actor"], Actor())
        return {
            "speaker": f"crema-d/{fields['actor']}",
            "transcript": tree.code(SENTENCES, "sentence", fields["sentence"]),
            "emotion": tree.code(EMOTIONS, "emotion", fields["emotion"]),
            "intensity": tree.code(INTENSITIES, "intensity", fields["intensity"]),
            "gender": actor.gender,
            "age": actor.age,
        }

    items = tree.read(section, found, labels, "AudioWAV/1001_DFA_ANG_XX.wav", f"CREMA-D ({SOURCE})")
    if actors:
        heard = {item.labels["speaker"] for item in items if isinstance(item, Utterance)}
        tree.mention_unknown(heard, {f"crema-d/{actor}" for actor in actors}, TABLE)
    yield from items


def _actors(section: CremaD, found: Found) -> dict[str, Actor]:
    """The table, by actor; empty where there is none that can be read, which is said."""
    tables = [path for path in found.files if path.name.lower() == TABLE.lower()]
    wanted = f"utterances have no age and no gender; get {TABLE} from {SOURCE} and put it into {found.root}"
    if not tables:
        say(f"no {TABLE} under {found.root}: {wanted}")
        return {}
    table = min(tables, key=lambda path: (len(path.parts), path))
    try:
        follow(found.root, table, absolute_paths=section.absolute_paths)
        # utf-8-sig drops the byte-order mark with which spreadsheets begin a file.
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OutsideRoot, OSError, UnicodeDecodeError, csv.Error) as error:
        say(f"{table} cannot be read ({error}): {wanted}")
        return {}
    if not rows or not {"ActorID", "Age", "Sex"} <= rows[0].keys():
        columns = ", ".join(str(column) for column in (rows[0] if rows else [])) or "no rows"
        say(f"{table} has {columns}, not ActorID, Age and Sex: {wanted}")
        return {}
    actors, complaints = _understood(rows)
    if complaints:
        say(f"{table}: {complaints[0]} (and {len(complaints) - 1} more such); what is doubtful is left missing")
    return actors


def _understood(rows: list[Mapping[str, str | None]]) -> tuple[dict[str, Actor], list[str]]:
    """What the rows say of each actor, and what is wrong with them."""
    said: dict[str, list[Actor]] = {}
    complaints = []
    for row in rows:
        actor, age, sex = ((row[column] or "").strip() for column in ("ActorID", "Age", "Sex"))
        years = float(age) if _AGE.fullmatch(age) else 0.0
        if not years:
            complaints.append(f"actor {actor or 'without a number'}: {age!r} is no age")
        if sex.lower() not in GENDERS:
            complaints.append(f"actor {actor or 'without a number'}: {sex!r} is neither Female nor Male")
        said.setdefault(actor, []).append(Actor(years or None, sex.lower() if sex.lower() in GENDERS else None))
    for actor, each in said.items():
        for name, values in zip(Actor._fields, zip(*each, strict=True), strict=True):
            if len(set(values) - {None}) > 1:
                complaints.append(f"actor {actor}: {name} is {' and '.join(map(str, dict.fromkeys(values)))}")
    return {actor: Actor(*map(_agreed, zip(*each, strict=True))) for actor, each in said.items()}, complaints


def _agreed(values: tuple) -> str | float | None:
    known = set(values) - {None}
    return known.pop() if len(known) == 1 else None
