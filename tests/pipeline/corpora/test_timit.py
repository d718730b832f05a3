import re
import shutil

import numpy as np
import pytest

from strata.extractors import audio
from strata.pipeline.corpora import Problem, Utterance
from strata.pipeline.corpora.timit import DIALECTS, Timit, utterances

SA1 = "She had your dark suit in greasy wash water all year."


@pytest.fixture
def section(trees):
    return Timit(root=trees["timit"])


def by_name(section, folder):
    """Labels of every utterance."""
    return {item.name: item.labels for item in utterances(section, folder) if isinstance(item, Utterance)}


def ages(section, folder):
    """Age of every speaker."""
    return {labels["speaker"]: labels["age"] for labels in by_name(section, folder).values()}


def test_labels_by_hand(section, tmp_path, capsys):
    """Folders, names, texts and table become labels: 9,496 days are 26 years less half a day, 21,915 are 60."""
    assert by_name(section, tmp_path) == {
        "DR1/FCJF0/SA1": {
            "speaker": "timit/FCJF0",
            "split": "train",
            "transcript": SA1,
            "sentence_type": "SA",
            "dialect": "New England",
            "gender": "female",
            "age": 9496 / 365.25,
        },
        "DR4/MMDM0/SX51": {
            "speaker": "timit/MMDM0",
            "split": "train",
            "transcript": "Why yell or worry over silly items?",
            "sentence_type": "SX",
            "dialect": "South Midland",
            "gender": "male",
            "age": None,
        },
        "DR8/MPAM0/SA1": {
            "speaker": "timit/MPAM0",
            "split": "test",
            "transcript": SA1,
            "sentence_type": "SA",
            "dialect": "Army Brat",
            "gender": "male",
            "age": 60.0,
        },
    }
    assert capsys.readouterr().err == ""


def test_it_has_eight_dialects():
    """Each with a name of its own."""
    assert list(DIALECTS) == [f"DR{number}" for number in range(1, 9)]
    assert len(set(DIALECTS.values())) == 8


def test_files_of_the_release_are_decoded(section, tmp_path):
    """NIST SPHERE under the name WAV: a header of 1,024 bytes, then samples, here 1,601 of a tone."""
    tone = (9973 * np.sin(np.arange(1601) / 7)).astype("<i2")
    header = (
        "NIST_1A\n   1024\ndatabase_id -s5 TIMIT\ndatabase_version -s3 1.0\nutterance_id -s8 cjf0_sa1\n"
        "channel_count -i 1\nsample_count -i 1601\nsample_rate -i 16000\nsample_min -i -9973\nsample_max -i 9973\n"
        "sample_n_bytes -i 2\nsample_byte_format -s2 01\nsample_sig_bits -i 16\nend_head\n"
    )
    (section.root / "TRAIN/DR1/FCJF0/SA1.WAV").write_bytes(header.encode().ljust(1024) + tone.tobytes())
    (item,) = [item for item in utterances(section, tmp_path) if item.name == "DR1/FCJF0/SA1"]
    assert audio.inspect(item.audio) == audio.Inspection(1601 / 16_000, 16_000, 1)
    np.testing.assert_array_equal(audio.read(item.audio), tone / np.float32(32768))


def test_letter_case_means_nothing(section, tmp_path):
    """A copy in small letters has the same utterances by the same names."""
    before = by_name(section, tmp_path)
    root = tmp_path / "small"
    for path in section.root.rglob("[!.]*.*"):
        small = root / str(path.relative_to(section.root)).lower()
        small.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, small)
    assert by_name(section.model_copy(update={"root": root}), tmp_path) == before


def test_a_converted_copy_beside_the_original(section, tmp_path):
    """Is passed over, and read where there is no original; both have the same name and labels."""
    before = list(utterances(section, tmp_path))
    original = section.root / "TRAIN/DR1/FCJF0/SA1.WAV"
    converted = original.with_name("SA1.WAV.wav")
    shutil.copy(original, converted)
    assert list(utterances(section, tmp_path)) == before
    original.unlink()
    (item,) = [item for item in utterances(section, tmp_path) if item.name == "DR1/FCJF0/SA1"]
    assert (item.audio, item.labels) == (converted, before[0].labels)


def test_without_the_table(section, tmp_path, capsys):
    """Ages are missing, nothing else is, and one line says what to get."""
    before = by_name(section, tmp_path)
    (section.root / "DOC/SPKRINFO.TXT").unlink()
    assert by_name(section, tmp_path) == {name: {**labels, "age": None} for name, labels in before.items()}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("no SPKRINFO.TXT under")
    assert "utterances have no age; put TIMIT's own table into" in line


def test_the_table_may_have_another_ending(section, tmp_path):
    """`SPKRINFO.DOC`, in any letter case and any folder, is the same table."""
    before = ages(section, tmp_path)
    table = section.root / "DOC/SPKRINFO.TXT"
    table.rename(section.root / "spkrinfo.doc")
    assert ages(section, tmp_path) == before


@pytest.mark.parametrize(
    ("row", "age", "message"),
    [
        ("CJF0  F  1  TRN  01/30/86  01/31/60  5'04\"  WHT  BS", 9496 / 365.25, ""),
        ("CJF0  F  1  TRN  ??/??/86  01/31/60  5'04\"  WHT  BS", None, ""),
        ("CJF0  F  1  TRN  01/30/86  ??/??/??  5'04\"  WHT  BS", None, ""),
        ("CJF0  F  1  TRN  01/30/86  13/31/60  5'04\"  WHT  BS", None, "1 ages cannot be told .* FCJF0, born 13/31/60"),
        ("CJF0  F  1  TRN  01/30/86  1960  5'04\"  WHT  BS", None, "born 1960 and recorded 01/30/86; they are left"),
        ("CJF0  F  1  TRN  01/30/60  01/31/86  5'04\"  WHT  BS", None, "1 ages cannot be told"),
        ("CJF0  F  1  TRN  01/30/86  01/30/86  5'04\"  WHT  BS", None, "1 ages cannot be told"),
        (
            "CJF0  M  1  TRN  01/30/86  01/31/60  5'04\"  WHT  BS",
            None,
            "not in SPKRINFO.TXT: 1 speakers, the first FCJF0",
        ),
        ("CJF0  F  1  TRN", None, "not in SPKRINFO.TXT: 1 speakers, the first FCJF0; they have no age"),
        (
            "CJF0  F  1  TRN  01/30/86  01/31/60\nCJF0  F  1  TRN  01/30/86  01/31/61",
            None,
            "SPKRINFO.TXT contradicts itself about 1, the first FCJF0",
        ),
    ],
)
def test_doubtful_dates(section, tmp_path, capsys, row, age, message):
    """An age that the table does not tell is missing for that speaker alone; told, unless it says so itself (`??`)."""
    (section.root / "DOC/SPKRINFO.TXT").write_text(
        f"; a comment\n{row}\nPAM0 M 8 TST 03/10/86 03/10/26\nMDM0 M 4 TRN ? ?\n"
    )
    assert ages(section, tmp_path) == {"timit/FCJF0": age, "timit/MMDM0": None, "timit/MPAM0": 60.0}
    said = capsys.readouterr().err
    assert bool(message) == bool(said)
    assert re.search(message, said)


@pytest.mark.parametrize("text", [None, b"", b"She had your dark suit\n", b"0 46797\n", b"0 46797   \n"])
def test_a_recording_without_a_text(section, tmp_path, capsys, text):
    """Has no transcript, and a line counts such recordings; a text of another form is none."""
    path = section.root / "TRAIN/DR1/FCJF0/SA1.TXT"
    path.unlink()
    if text is not None:
        path.write_bytes(text)
    found = {name: labels["transcript"] for name, labels in by_name(section, tmp_path).items()}
    assert found == {
        "DR1/FCJF0/SA1": None,
        "DR4/MMDM0/SX51": "Why yell or worry over silly items?",
        "DR8/MPAM0/SA1": SA1,
    }
    assert "1 recording without a text beside it, the first DR1/FCJF0/SA1" in capsys.readouterr().err


def test_a_text_outside_the_root_is_not_read(section, tmp_path):
    """A link to one counts with the option only."""
    path = section.root / "TRAIN/DR1/FCJF0/SA1.TXT"
    path.symlink_to(path.rename(tmp_path / "text.txt"))
    assert by_name(section, tmp_path)["DR1/FCJF0/SA1"]["transcript"] is None
    open_section = section.model_copy(update={"absolute_paths": True})
    assert by_name(open_section, tmp_path)["DR1/FCJF0/SA1"]["transcript"] == SA1


def test_outside_of_training_and_test(section, tmp_path):
    """A copy without those folders has no splits: none is guessed."""
    (section.root / "TRAIN").rename(section.root / "all")
    found = {name: labels["split"] for name, labels in by_name(section, tmp_path).items()}
    assert found == {"DR1/FCJF0/SA1": None, "DR4/MMDM0/SX51": None, "DR8/MPAM0/SA1": "test"}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("TRAIN/DR0/FCJF0/SA1.WAV", "unknown dialect 'DR0'; the corpus has DR1, DR2, "),
        ("TRAIN/DR1/XCJF0/SA1.WAV", "not named <dialect>/<speaker>/<sentence>"),
        ("TRAIN/DR1/FCJF/SA1.WAV", "not named <dialect>/<speaker>/<sentence>"),
        ("TRAIN/DR1/FCJF0/SB1.WAV", "not named <dialect>/<speaker>/<sentence>"),
        ("TRAIN/FCJF0/SA1.WAV", "not named <dialect>/<speaker>/<sentence>"),
    ],
)
def test_unknown_codes_and_names(section, plant, tmp_path, path, reason):
    """Each is listed with what the corpus has instead."""
    plant(section.root, path)
    problems = {item.name: item.reason for item in utterances(section, tmp_path) if isinstance(item, Problem)}
    assert problems[path].startswith(reason)
