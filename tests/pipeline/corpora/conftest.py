from pathlib import Path

import pytest

from pipeline.corpora.demo import Demo
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


@pytest.fixture(params=["demo", "folder", "prompts"])
def section(request, write_folder, prompts_tree):
    """A section of each adapter, to be read in `tmp_path`; those that can have bad entries have one."""
    if request.param == "demo":
        return Demo(speakers=2, utterances_per_speaker=3)
    if request.param == "prompts":
        (prompts_tree / "it_IT_m_Carlo" / "astray.wav").symlink_to("nowhere.wav")
        return Prompts(root=prompts_tree)
    rows = "file_name,speaker,age\na.wav,007,31\nb/a.wav,11,\n../c.wav,11,37\nmissing.wav,11,41\n"
    return write_folder(rows, "a.wav", "b/a.wav")
