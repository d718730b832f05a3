import os
import re

import pytest
from pydantic import ValidationError

from strata.pipeline.corpora import Problem, Utterance
from strata.pipeline.corpora.iemocap import EMOTIONS, FOUR, Iemocap, utterances

EVALUATION = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
TRANSCRIPT = "Session1/dialog/transcriptions/Ses01F_impro01.txt"
FIRST = "Ses01F_impro01_F000"


@pytest.fixture
def section(trees):
    return Iemocap(root=trees["iemocap"])


def by_name(section, folder):
    """Labels of every utterance."""
    return {item.name: item.labels for item in utterances(section, folder) if isinstance(item, Utterance)}


def felt(section, folder, name=FIRST):
    """What the tables of emotions say of an utterance."""
    labels = by_name(section, folder)[name]
    return tuple(labels[label] for label in ("emotion", "valence", "activation", "dominance"))


def test_labels_by_hand(section, tmp_path, capsys):
    """The speaker is whom the letter before the number means, not who wore the markers; tables tell the rest."""
    assert by_name(section, tmp_path) == {
        "Ses01F_impro01_F000": {
            "speaker": "iemocap/Ses01_F",
            "transcript": "Excuse me.",
            "emotion": "neutral",
            "valence": 2.5,
            "activation": 3.0,
            "dominance": 2.0,
            "gender": "female",
            "session": "1",
            "split": "train",
            "style": "spontaneous",
        },
        "Ses01F_impro01_M001": {
            "speaker": "iemocap/Ses01_M",
            "transcript": "Yeah.",
            "emotion": "excitement",
            "valence": 4.0,
            "activation": 3.5,
            "dominance": 3.0,
            "gender": "male",
            "session": "1",
            "split": "train",
            "style": "spontaneous",
        },
        "Ses05M_script01_1b_M017": {
            "speaker": "iemocap/Ses05_M",
            "transcript": "I saw him: there.",
            "emotion": None,
            "valence": 1.5,
            "activation": 4.5,
            "dominance": 5.0,
            "gender": "male",
            "session": "5",
            "split": "test",
            "style": "acted",
        },
    }
    assert capsys.readouterr().err == ""


def test_recordings_of_whole_dialogues_are_passed_over(section, plant, tmp_path):
    """Neither utterances nor problems, in any format."""
    plant(section.root, "Session5/dialog/wav/Ses05M_script01_1b.WAV", "Session1/dialog/wav/Ses01M_impro05a.wav")
    assert not any("dialog" in item.name for item in utterances(section, tmp_path))


@pytest.mark.parametrize(
    ("code", "emotion", "of_four"),
    [
        ("ang", "anger", "anger"),
        ("hap", "happiness", "happiness"),
        ("exc", "excitement", "happiness"),
        ("sad", "sadness", "sadness"),
        ("neu", "neutral", "neutral"),
        ("fru", "frustration", None),
        ("sur", "surprise", None),
        ("fea", "fear", None),
        ("dis", "disgust", None),
        ("oth", "other", None),
        ("xxx", None, None),
    ],
)
def test_emotions_of_all_and_of_four_classes(section, tmp_path, code, emotion, of_four):
    """Excitement joins happiness among the four; an utterance of another emotion stays with its dimensions."""
    path = section.root / EVALUATION
    path.write_text(f"[6.2901 - 8.2357]\t{FIRST}\t{code}\t[2.0000, 3.5000, 5.0000]\n")
    assert felt(section, tmp_path) == (emotion, 2.0, 3.5, 5.0)
    four = section.model_copy(update={"classes": "four"})
    assert felt(four, tmp_path) == (of_four, 2.0, 3.5, 5.0)
    assert by_name(four, tmp_path).keys() == by_name(section, tmp_path).keys()


def test_its_classes():
    """Ten emotions and no agreement; four of them by five names."""
    assert len(set(EMOTIONS.values())) == 11
    assert len(set(FOUR.values())) == 4
    assert FOUR.keys() < set(EMOTIONS.values())
    with pytest.raises(ValidationError, match="'all' or 'four'"):
        Iemocap(root="x", classes="five")


@pytest.mark.parametrize(
    ("folder", "lacking"),
    [
        ("EmoEvaluation", {"emotion": None, "valence": None, "activation": None, "dominance": None}),
        ("transcriptions", {"transcript": None}),
    ],
)
def test_without_tables(section, tmp_path, capsys, folder, lacking):
    """Their labels are missing, no others are, and one line says what to get and where."""
    before = by_name(section, tmp_path)
    for path in section.root.rglob(f"{folder}/*.txt"):
        path.unlink()
    assert by_name(section, tmp_path) == {name: labels | lacking for name, labels in before.items()}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"no {folder}/*.txt with a row under")
    assert "https://sail.usc.edu/iemocap/" in line


@pytest.mark.parametrize("table", [EVALUATION, TRANSCRIPT])
def test_one_table_that_is_not_there_or_cannot_be_read(section, tmp_path, capsys, table):
    """Costs its dialogue's labels alone; a line counts the recordings, another the tables that are no use."""
    folder = table.split("/")[2]
    before = by_name(section, tmp_path)
    (section.root / table).unlink()
    found = by_name(section, tmp_path)
    lacking = f"not in {folder}: 2 recordings, the first {FIRST}; they have no "
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(lacking)
    assert found[FIRST] != before[FIRST]
    assert found["Ses05M_script01_1b_M017"] == before["Ses05M_script01_1b_M017"]
    (section.root / table).symlink_to("nowhere.txt")
    assert by_name(section, tmp_path) == found
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"{folder}: 1 tables cannot be used, the first {table} (cannot be read: No such file or directory)"
    assert second == line


@pytest.mark.parametrize(
    ("row", "expected", "message"),
    [
        ("[1 - 2]\t{}\tjoy\t[2.0000, 3.0000, 4.0000]", (None, 2, 3, 4), f"1 emotions are none of ang, .*of {FIRST}"),
        ("[1 - 2]\t{}\tneu\t[2.0000, 3.0000]", (None,) * 4, "not in EmoEvaluation: 1 recordings"),
        ("[1 - 2]\t{}\tneu\t[2.0000, nan, 4.0000]", (None,) * 4, "not in EmoEvaluation: 1 recordings"),
        (
            "[1 - 2]\t{}\tneu\t[2, 3, 4]\n[1 - 2]\t{}\tsad\t[2, 3, 4]",
            (None,) * 4,
            f"contradicts .* 1, the first {FIRST}",
        ),
        ("[1 - 2]\t{}\tneu\t[2, 3, 4]\n[1 - 2]\t{}\tneu\t[2, 3, 4]", ("neutral", 2, 3, 4), "^$"),
        ("[1 - 2] {} neu [2.0,3.0,4.0]\r", ("neutral", 2, 3, 4), "^$"),
    ],
)
def test_doubtful_rows(section, tmp_path, capsys, row, expected, message):
    """What a row does not say for sure is missing for that utterance alone, and told."""
    other = "[3 - 4]\tSes01F_impro01_M001\tsad\t[1, 2, 3]\n"
    (section.root / EVALUATION).write_text(row.replace("{}", FIRST) + "\n" + other)
    assert felt(section, tmp_path) == expected
    assert felt(section, tmp_path, "Ses01F_impro01_M001") == ("sadness", 1, 2, 3)
    capsys.readouterr()
    by_name(section, tmp_path)
    said = capsys.readouterr().err
    assert re.search(message, said)


def test_a_text_in_another_encoding(section, tmp_path):
    """Windows's apostrophe is read as one, in a file that is no UTF-8."""
    (section.root / TRANSCRIPT).write_bytes(f"{FIRST} [006.2901-008.2357]: It\x92s me.\n".encode("latin-1"))
    assert by_name(section, tmp_path)[FIRST]["transcript"] == "It’s me."


def test_tables_outside_the_root(section, tmp_path, capsys):
    """A link to one is followed with the option only."""
    table = section.root / EVALUATION
    table.symlink_to(table.rename(tmp_path / "table.txt"))
    assert felt(section, tmp_path) == (None,) * 4
    assert "(a link leads outside the folder" in capsys.readouterr().err
    assert felt(section.model_copy(update={"absolute_paths": True}), tmp_path) == ("neutral", 2.5, 3.0, 2.0)


def test_a_copy_with_all_recordings_in_one_folder(section, tmp_path):
    """Has the same utterances: they are known by their names alone."""
    before = by_name(section, tmp_path)
    for path in [*section.root.rglob("Ses*_*_[FM]0*.wav")]:
        os.rename(path, section.root / path.name)
    assert by_name(section, tmp_path) == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Ses06F_impro01_F000", "unknown session '06'; the corpus has 01, 02, 03, 04, 05"),
        ("Ses01F_chat01_F000", "unknown style 'chat'; the corpus has impro, script"),
        ("Ses01F_impro01_X000", "not named <dialogue>_<F or M><number>"),
        ("Ses01F_impro01_FXX0", "not named <dialogue>_<F or M><number>"),
        ("Ses01_impro01_F000", "not named <dialogue>_<F or M><number>"),
    ],
)
def test_unknown_codes_and_names(section, plant, tmp_path, name, reason):
    """Each is listed with what the corpus has instead."""
    plant(section.root, f"Session1/{name}.wav")
    problems = {item.name: item.reason for item in utterances(section, tmp_path) if isinstance(item, Problem)}
    assert problems[f"Session1/{name}.wav"].startswith(reason)


@pytest.mark.parametrize("name", ["Ses03M_impro08b_F001", "Ses02M_script03_2_M041", "Ses04F_script01_3_F999"])
def test_names_of_the_release(section, plant, tmp_path, name):
    """Dialogues in parts have a letter or a number more."""
    plant(section.root, f"{name}.wav")
    assert by_name(section, tmp_path)[name]["speaker"] == f"iemocap/{name[:5]}_{name[-4]}"
