"""VoxCeleb1: 153,516 utterances of 1,251 celebrities, cut out of interviews on YouTube.

Reads `<speaker>/<video>/<number>.wav`, as in `wav/id10001/1zcIwhmdeo4/00001.wav`, wherever it lies below the root: dev
and test merged or apart. Numbers repeat from video to video, so a recording is known by all three.

Two tables come from the corpus's site, and copies often lack them; without one its labels are missing, and a line says
where to get it. `iden_split.txt` splits for *identification*: all speakers are in training (138,361 utterances),
validation (6,904) and test (8,251). Verification splits by speaker instead, and has lists of trials, which are not
read here. `vox1_meta.csv` has genders and nationalities. These are the table's own, which puts most of the French under
Norway.

Source: https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html (CC BY 4.0; the videos remain their owners'); Nagrani
et al., "VoxCeleb: a large-scale speaker identification dataset", Interspeech 2017.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from strata.pipeline.corpora import tree
from strata.pipeline.corpora.contract import Problem, Utterance
from strata.pipeline.corpora.paths import slashed
from strata.pipeline.corpora.rooted import Found, look_into
from strata.pipeline.progress import counted, say

SOURCE = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html"
"""Where the corpus can be had."""
TABLES = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta"
"""Where its tables can be had."""
SPLIT_TABLE = "iden_split.txt"
"""`<1, 2 or 3> <speaker>/<video>/<number>.wav` in a row."""
SPEAKER_TABLE = "vox1_meta.csv"
"""One row per speaker, divided by tabs."""

SPLITS = {"1": "train", "2": "validation", "3": "test"}
GENDERS = {"f": "female", "m": "male"}
SPEAKERS = range(10001, 11252)
"""Their numbers; VoxCeleb2's are others."""

_NAME = re.compile(r"id(?P<speaker>[0-9]{5})/(?P<video>[A-Za-z0-9_-]{11})/[0-9]{5}")
_ROW = re.compile(r"\s*(?P<split>[123])\s+(?P<name>\S+)\.wav\s*")


class VoxCeleb1(tree.Tree):
    """`{adapter: voxceleb1, root: ../voxceleb1}`."""

    adapter: Literal["voxceleb1"] = "voxceleb1"


def utterances(section: VoxCeleb1, folder: Path) -> Iterator[Utterance | Problem]:
    """All recordings, sorted by name (as in "id10001/1zcIwhmdeo4/00001").

    Labels: `speaker` (as in "voxceleb1/id10001"), `split` (train, validation, test; of identification), `video`,
    `gender` and `nationality`.

    Raises:
        CorpusError: no usable recording below the root.
    """
    found = look_into(section, folder)
    splits, speakers = _splits(section, found), _speakers(section, found)

    def meaning(path: Path) -> tuple[str, tree.Labels]:
        speaker, video, _ = tree.innermost(path, 3)
        name = f"{speaker}/{video}/{path.stem}"
        fields = _NAME.fullmatch(name)
        if not fields:
            raise tree.Unusable("not named <speaker>/<video>/<number>, as in id10001/1zcIwhmdeo4/00001")
        if int(fields["speaker"]) not in SPEAKERS:
            raise tree.Unusable(f"unknown speaker {speaker!r}; the corpus has id{SPEAKERS[0]} to id{SPEAKERS[-1]}")
        gender, nationality = (speakers or {}).get(speaker, (None, None))
        return name, {
            "speaker": f"voxceleb1/{speaker}",
            "split": (splits or {}).get(name),
            "video": video,
            "gender": gender,
            "nationality": nationality,
        }

    items = tree.read_paths(section, found, meaning, "id10001/1zcIwhmdeo4/00001.wav", f"VoxCeleb1 ({SOURCE})")
    names = {item.name for item in items if isinstance(item, Utterance)}
    if splits is not None:
        tree.mention_unknown(names, splits.keys(), SPLIT_TABLE, "recordings", "no split")
    if speakers is not None:
        heard = {name.split("/")[0] for name in names}
        tree.mention_unknown(heard, speakers.keys(), SPEAKER_TABLE, lacking="no gender and no nationality")
    yield from items


def _splits(section: VoxCeleb1, found: Found) -> dict[str, str] | None:
    """Split of each recording that the table has; None instead where there is no table, which has been said."""
    wanted = f"utterances have no split; get {SPLIT_TABLE} from {TABLES} and put it into {found.root}"
    rows = [row for row in tree.table(section, found, (SPLIT_TABLE,), wanted) if row.strip()]
    if not rows:
        return None
    fields = [_ROW.fullmatch(row) for row in rows]
    if wrong := [row for row, each in zip(rows, fields, strict=True) if not each]:
        rows = counted(len(wrong), "row")
        say(f"{SPLIT_TABLE}: {rows} not as in '1 id10001/1zcIwhmdeo4/00001.wav', the first {wrong[0]!r}")
    return tree.agreed(((slashed(each["name"]), SPLITS[each["split"]]) for each in fields if each), SPLIT_TABLE)


def _speakers(section: VoxCeleb1, found: Found) -> dict[str, tuple[str | None, str | None]] | None:
    """Gender and nationality of each speaker that the table has, None where a cell cannot be used.

    None instead where there is no table that can be used, which has been said.
    """
    wanted = (
        f"utterances have no gender and no nationality; get {SPEAKER_TABLE} from {TABLES} and put it into {found.root}"
    )
    rows = tree.table(section, found, (SPEAKER_TABLE,), wanted)
    if not rows:
        return None
    columns = [cell.strip() for cell in rows[0].split("\t")]
    if not {"VoxCeleb1 ID", "Gender", "Nationality"} <= set(columns):
        say(f"{SPEAKER_TABLE} has {rows[0]!r}, not VoxCeleb1 ID, Gender and Nationality divided by tabs: {wanted}")
        return None
    cells = [dict(zip(columns, map(str.strip, row.split("\t")), strict=False)) for row in rows[1:] if row.strip()]
    if wrong := [row for row in cells if row.get("Gender") not in GENDERS]:
        first = wrong[0]
        say(
            f"{SPEAKER_TABLE}: {len(wrong)} genders are neither f nor m, the first that of {first['VoxCeleb1 ID']!r}, "
            f"{first.get('Gender', '')!r}; they are left missing"
        )
    people = ((row["VoxCeleb1 ID"], (GENDERS.get(row.get("Gender")), row.get("Nationality") or None)) for row in cells)
    return tree.agreed(people, SPEAKER_TABLE)
