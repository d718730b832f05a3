from pathlib import Path

import pytest

from strata.pipeline.corpora.baved import Baved
from strata.pipeline.corpora.crema_d import CremaD
from strata.pipeline.corpora.demo import Demo
from strata.pipeline.corpora.emo_db import EmoDB
from strata.pipeline.corpora.folder import Folder
from strata.pipeline.corpora.iemocap import Iemocap
from strata.pipeline.corpora.prompts import Prompts
from strata.pipeline.corpora.speech_commands import SpeechCommands
from strata.pipeline.corpora.timit import Timit
from strata.pipeline.corpora.voxceleb1 import VoxCeleb1

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
    "iemocap": [
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M001.wav",
        "Session5/sentences/wav/Ses05M_script01_1b/Ses05M_script01_1b_M017.wav",
        "Session1/dialog/wav/Ses01F_impro01.wav",
        "Session6/sentences/wav/Ses06F_impro01/Ses06F_impro01_F000.wav",
    ],
    "speech-commands": [
        "no/004ae714_nohash_0.wav",
        "yes/004ae714_nohash_0.wav",
        "cat/2aa787cf_nohash_1.wav",
        "five/97ae8b25_nohash_0.wav",
        "_background_noise_/white_noise.wav",
        "maybe/004ae714_nohash_0.wav",
    ],
    "timit": [
        "TRAIN/DR1/FCJF0/SA1.WAV",
        "TRAIN/DR4/MMDM0/SX51.WAV",
        "TEST/DR8/MPAM0/SA1.WAV",
        "TRAIN/DR9/FCJF0/SA2.WAV",
    ],
    "voxceleb1": [
        "vox1_dev_wav/wav/id10001/1zcIwhmdeo4/00001.wav",
        "vox1_dev_wav/wav/id10003/na8-QEFmj44/00001.wav",
        "vox1_test_wav/wav/id10270/5r0dWxy17C8/00001.wav",
        "vox1_test_wav/wav/id00012/21Uxsk56VDQ/00001.wav",
    ],
}
"""The real corpora's own layout; the last recording of each has a code that the corpus does not know."""
TABLES = {
    "crema-d": {
        "VideoDemographics.csv": """"ActorID","Age","Sex","Race","Ethnicity"
1001,51,"Male","Caucasian","Not Hispanic"
1002,21,"Female","Caucasian","Not Hispanic"
1040,42,"Male","Caucasian","Not Hispanic"
"""
    },
    "iemocap": {
        "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 3.0000, 2.0000]
C-E2:\tNeutral;\t()
A-E3:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M001\texc\t[4.0000, 3.5000, 3.0000]
C-E2:\tExcited;\t()
""",
        "Session1/dialog/transcriptions/Ses01F_impro01.txt": """Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
M: [LAUGHTER]
Ses01F_impro01_M001 [010.0100-011.3925]: Yeah.
Ses01F_impro01_MXX0 [012.0000-012.3000]: Um.
""",
        "Session5/dialog/EmoEvaluation/Ses05M_script01_1b.txt": (
            "[1.0 - 2.0]\tSes05M_script01_1b_M017\txxx\t[1.5000, 4.5000, 5.0000]\n"
        ),
        "Session5/dialog/transcriptions/Ses05M_script01_1b.txt": (
            "Ses05M_script01_1b_M017 [001.0000-002.0000]: I saw him: there.\n"
        ),
        "Session1/dialog/MOCAP_head/Ses01F_impro01.txt": (
            "[1.0 - 2.0]\tSes01F_impro01_F000\tang\t[1.0000, 1.0000, 1.0000]\n"
        ),
    },
    "speech-commands": {
        "validation_list.txt": "five/97ae8b25_nohash_0.wav\n",
        "testing_list.txt": "cat/2aa787cf_nohash_1.wav\n",
    },
    "timit": {
        "DOC/SPKRINFO.TXT": """;
;ID  Sex DR Use  RecDate   BirthDate  Ht    Race Edu  Comments
;
CJF0  F  1  TRN  01/30/86  01/31/60  5'04"  WHT  BS
MDM0  M  4  TRN  03/11/86  ??/??/??  5'11"  WHT  BS   Dark tan
PAM0  M  8  TST  03/10/86  03/10/26  5'09"  WHT  PHD
""",
        "TRAIN/DR1/FCJF0/SA1.TXT": "0 46797 She had your dark suit in greasy wash water all year.\n",
        "TRAIN/DR1/FCJF0/SA1.PHN": "0 3050 h#\n",
        "TRAIN/DR4/MMDM0/SX51.TXT": "0 31642 Why yell or worry over silly items? \n",
        "TEST/DR8/MPAM0/SA1.TXT": "0 50000 She had your dark suit in greasy wash water all year.\n",
    },
    "voxceleb1": {
        "iden_split.txt": """1 id10001/1zcIwhmdeo4/00001.wav
3 id10003/na8-QEFmj44/00001.wav
2 id10270/5r0dWxy17C8/00001.wav
1 id10002/QanuGhOhb9A/00001.wav
""",
        "vox1_meta.csv": """VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet
id10001\tA.J._Buckley\tm\tIreland\tdev
id10003\tAamir_Khan\tm\tIndia\tdev
id10270\tEartha_Kitt\tf\tUSA\ttest
""",
    },
}
"""What lies beside the recordings, in the form that the corpora publish."""
SECTIONS = {
    "crema-d": CremaD,
    "baved": Baved,
    "emo-db": EmoDB,
    "iemocap": Iemocap,
    "speech-commands": SpeechCommands,
    "timit": Timit,
    "voxceleb1": VoxCeleb1,
}


@pytest.fixture
def trees(tmp_path, plant):
    """The folders of the published corpora, by the names of their adapters, and what lies beside recordings."""
    roots = {adapter: plant(tmp_path / adapter, *paths) for adapter, paths in TREES.items()}
    for adapter, root in roots.items():
        for name, text in TABLES.get(adapter, {}).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        first = Path(TREES[adapter][0])
        (root / first.with_name(f"._{first.name}")).write_bytes(b"\0\5\x16\7")
        (root / ".DS_Store").write_bytes(b"\0")
        (root / "README.md").write_text("not a recording")
    return roots


@pytest.fixture(params=["crema-d", "baved", "emo-db"])
def tree(request, trees):
    """The section of each corpus whose labels stand in its file names."""
    return SECTIONS[request.param](root=trees[request.param])


@pytest.fixture(params=["speech-commands", "timit", "voxceleb1"])
def deep(request, trees):
    """The section of each corpus whose recordings are known by their folders too."""
    return SECTIONS[request.param](root=trees[request.param])


@pytest.fixture(params=["demo", "folder", "prompts", *SECTIONS])
def section(request, write_folder, prompts_tree, trees):
    """A section of each adapter, to be read in `tmp_path`; those that can have bad entries have one."""
    if request.param in trees:
        return SECTIONS[request.param](root=trees[request.param])
    if request.param == "demo":
        return Demo(speakers=2, utterances_per_speaker=3)
    if request.param == "prompts":
        (prompts_tree / "it_IT_m_Carlo" / "astray.wav").symlink_to("nowhere.wav")
        return Prompts(root=prompts_tree)
    rows = "file_name,speaker,age\na.wav,007,31\nb/a.wav,11,\n../c.wav,11,37\nmissing.wav,11,41\n"
    return write_folder(rows, "a.wav", "b/a.wav")
