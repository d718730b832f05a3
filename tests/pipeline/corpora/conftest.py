from pathlib import Path

import pytest

from pipeline.corpora.baved import Baved
from pipeline.corpora.crema_d import CremaD
from pipeline.corpora.demo import Demo
from pipeline.corpora.emo_db import EmoDB
from pipeline.corpora.folder import Folder
from pipeline.corpora.prompts import Prompts

PROMPTS = [
    "en_US_f_Allison/activated.wav",
    "en_US_f_Allison/digits/7.wav",
    "en_US_f_Allison/digits/mon-11.wav",
    "en_US_f_Allison/letters/zed.wav",
    "en_US_f_Allison/silence/1.wav",
    "it_IT_m_Carlo/activated.wav",
    "it_IT_m_Carlo/phonetic/z_p.wav",
    "ru_RU_f_IvrvoiceRU/digits/7.wav",
]


@pytest.fixture
def prompts_tree(tmp_path):
    """A root as Debian's packages lay it out: three voices, and files beside them that are no recordings."""
    root = tmp_path / "sounds"
    for recording in PROMPTS:
        path = root / recording
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF")
    (root / "en_US_f_Allison" / "activated.gsm").write_bytes(b"")
    (root / "custom").mkdir()
    (root / "custom" / "greeting.wav").write_bytes(b"RIFF")
    return root


@pytest.fixture
def write_folder(tmp_path):
    """A function that writes `metadata.csv` and empty files, and returns the corpus's section."""

    def write(metadata: str | bytes, *files: str) -> Folder:
        root = tmp_path / "recordings"
        for name in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"RIFF")
        root.mkdir(exist_ok=True)
        (root / "metadata.csv").write_bytes(metadata if isinstance(metadata, bytes) else metadata.encode())
        return Folder(root=Path("recordings"))

    return write


TREES = {
    "crema-d": [
        "AudioWAV/1001_DFA_ANG_XX.wav",
        "AudioWAV/1002_IEO_HAP_HI.wav",
        "AudioWAV/1040_ITH_SAD_X.wav",
        "AudioWAV/1002_XYZ_HAP_HI.wav",
    ],
    "baved": ["0/25-m-19-0-2-126.wav", "4/12-f-19-4-0-1079.wav", "0/25-m-19-0-3-127.wav"],
    "emo-db": ["wav/03a01Fa.wav", "wav/16b10Lb.wav", "wav/03a03Fa.wav"],
}
"""The real corpora's own layout; the last recording of each has a code that the corpus does not know."""
DEMOGRAPHICS = """"ActorID","Age","Sex","Race","Ethnicity"
1001,51,"Male","Caucasian","Not Hispanic"
1002,21,"Female","Caucasian","Not Hispanic"
1040,42,"Male","Caucasian","Not Hispanic"
"""


@pytest.fixture
def trees(tmp_path, plant):
    """The folders of CREMA-D, BAVED and emo-DB, by the names of their adapters, and what lies beside recordings."""
    roots = {adapter: plant(tmp_path / adapter, *paths) for adapter, paths in TREES.items()}
    (roots["crema-d"] / "VideoDemographics.csv").write_text(DEMOGRAPHICS)
    for adapter, root in roots.items():
        first = Path(TREES[adapter][0])
        (root / first.with_name(f"._{first.name}")).write_bytes(b"\0\5\x16\7")
        (root / ".DS_Store").write_bytes(b"\0")
        (root / "README.md").write_text("not a recording")
    return roots


@pytest.fixture(params=["crema-d", "baved", "emo-db"])
def tree(request, trees):
    """The section of each corpus whose labels stand in its file names."""
    return {"crema-d": CremaD, "baved": Baved, "emo-db": EmoDB}[request.param](root=trees[request.param])


@pytest.fixture(params=["demo", "folder", "prompts", "crema-d", "baved", "emo-db"])
def section(request, write_folder, prompts_tree, trees):
    """A section of each adapter, to be read in `tmp_path`; those that can have bad entries have one."""
    if request.param in trees:
        return {"crema-d": CremaD, "baved": Baved, "emo-db": EmoDB}[request.param](root=trees[request.param])
    if request.param == "demo":
        return Demo(speakers=2, utterances_per_speaker=3)
    if request.param == "prompts":
        (prompts_tree / "it_IT_m_Carlo" / "astray.wav").symlink_to("nowhere.wav")
        return Prompts(root=prompts_tree)
    rows = "file_name,speaker,age\na.wav,007,31\nb/a.wav,11,\n../c.wav,11,37\nmissing.wav,11,41\n"
    return write_folder(rows, "a.wav", "b/a.wav")
