"""The tables of a folder: their formats, several of them, and the splits that their folders tell."""

import json

import pytest

from strata.pipeline.corpora import CorpusError
from strata.pipeline.corpora.folder import Folder, utterances


def labels(section, folder, column):
    """One label of every row."""
    return [item.labels[column] for item in utterances(section, folder)]


@pytest.fixture
def write_tables(tmp_path):
    """A function that writes tables by their paths, lists of rows as JSON, and empty files; returns the section."""

    def write(tables: dict, *files: str, **options) -> Folder:
        root = tmp_path / "recordings"
        for name, content in tables.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
            (root / name).write_text(text)
        for name in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"RIFF")
        return Folder(root="recordings", **options)

    return write


def test_json_lines(write_tables, tmp_path):
    """A `metadata.jsonl` is read like a CSV file, with the types that it tells."""
    rows = [
        {"file_name": "a.wav", "speaker": 3, "age": 31, "room": "12", "id": 12345678901234567},
        {"file_name": "b.wav", "speaker": 5, "age": None, "room": "7", "id": 12345678901234568},
        {"file_name": "gone.wav", "speaker": 5, "age": 3.5, "room": "7", "id": 5},
    ]
    *items, problem = utterances(write_tables({"metadata.jsonl": rows}, "a.wav", "b.wav"), tmp_path)
    assert [dict(item.labels) for item in items] == [
        {"speaker": "3", "age": 31.0, "room": "12", "id": "12345678901234567"},
        {"speaker": "5", "age": None, "room": "7", "id": "12345678901234568"},
    ]
    assert problem.reason.startswith("metadata.jsonl line 3: no such file")


def test_parquet(write_tables, tmp_path):
    """So is a `metadata.parquet`."""
    import pandas as pd

    section = write_tables({}, "a.wav", "b.wav")
    table = pd.DataFrame({"file_name": ["a.wav", "gone.wav"], "age": [31, 7], "mark": [0.5, None]}, index=[3, 5])
    table.to_parquet(tmp_path / "recordings" / "metadata.parquet")
    item, problem = utterances(section, tmp_path)
    assert dict(item.labels) == {"age": 31.0, "mark": 0.5}
    assert problem.reason.startswith("metadata.parquet row 2: no such file")


def test_a_table_for_each_split(write_tables, tmp_path, capsys):
    """Paths begin at the table's own folder, columns of all tables are there for all, and the folder is the split."""
    tables = {
        "train/metadata.csv": "file_name,mood,age\na.wav,glad,3\nx/b.wav,sad,007\n",
        "dev/metadata.csv": "file_name,mood\na.wav,glad\n",
        "my-test_2/metadata.csv": "file_name,mood,room\na.wav,glad,5\n",
    }
    files = ["train/a.wav", "train/x/b.wav", "dev/a.wav", "my-test_2/a.wav"]
    items = list(utterances(write_tables(tables, *files), tmp_path))
    assert {item.name: tuple(item.labels.values()) for item in items} == {
        "dev/a.wav": ("glad", None, None, "validation"),
        "my-test_2/a.wav": ("glad", 5.0, None, "test"),
        "train/a.wav": ("glad", None, "3", "train"),
        "train/x/b.wav": ("sad", None, "007", "train"),
    }
    assert list(items[0].labels) == ["mood", "room", "age", "split"]
    assert capsys.readouterr().err == ""


def test_one_table_and_a_folder_for_each_split(write_tables, tmp_path):
    """Also where the table lies above, and from Windows; what lies in no such folder has no split."""
    table = "file_name\ndata/train/a.wav\ndata\\eval\\a.wav\nother/trainer.wav\n"
    section = write_tables({"metadata.csv": table}, "data/train/a.wav", "data/eval/a.wav", "other/trainer.wav")
    assert labels(section, tmp_path, "split") == ["train", "test", None]


@pytest.mark.parametrize(
    ("table", "split"),
    [
        ("file_name,split\ntrain/a.wav,test\ntest/b.wav,\n", ["test", None]),  # the column counts
        ("file_name,split\ntrain/a.wav,\ntest/b.wav,\n", [None, None]),
    ],
)
def test_a_column_split_counts_and_not_the_folders(write_tables, tmp_path, table, split):
    """Whoever writes one has decided."""
    section = write_tables({"metadata.csv": table}, "train/a.wav", "test/b.wav")
    assert labels(section, tmp_path, "split") == split


def test_one_folder_alone_divides_nothing(write_tables, tmp_path):
    """As where `train` is what can be heard."""
    section = write_tables({"metadata.csv": "file_name\ntrain/a.wav\nplane/b.wav\n"}, "train/a.wav", "plane/b.wav")
    assert [item.labels for item in utterances(section, tmp_path)] == [{}, {}]


def test_a_recording_that_two_tables_have(write_tables, tmp_path, capsys):
    """Counts once, as the table nearer to the root has it, and a line says so."""
    tables = {
        "x/metadata.csv": "file_name,mood\na.wav,sad\nb.wav,sad\n",
        "metadata.csv": "file_name,mood\nx/a.wav,glad\n",
    }
    items = list(utterances(write_tables(tables, "x/a.wav", "x/b.wav"), tmp_path))
    assert [(item.name, item.labels["mood"]) for item in items] == [("x/a.wav", "glad"), ("x/b.wav", "sad")]
    assert "1 row of recordings that a table nearer to it has: x/metadata.csv line 2" in capsys.readouterr().err


def test_a_table_that_cannot_be_used_costs_itself(write_tables, tmp_path):
    """It is listed, and the others are read."""
    tables = {"metadata.csv": "file_name\na.wav\n", "notes/metadata.csv": "day,weather\n1,fair\n"}
    problem, item = utterances(write_tables(tables, "a.wav"), tmp_path)
    assert (problem.name, item.name) == ("notes/metadata.csv", "a.wav")
    assert "has no column file_name, only day, weather" in problem.reason


def test_two_tables_in_one_folder(write_tables, tmp_path):
    """Are refused: nothing says which counts."""
    section = write_tables({"metadata.csv": "file_name\na.wav\n", "metadata.jsonl": [{"file_name": "a.wav"}]}, "a.wav")
    with pytest.raises(CorpusError, match=r"metadata\.csv lies beside metadata\.jsonl; keep one"):
        list(utterances(section, tmp_path))


def test_a_column_that_ends_in_file_name(write_tables, tmp_path):
    """Names the recordings where it is the only one; beside `file_name` it is a label; of several one is chosen."""
    one = write_tables({"metadata.csv": "speech_file_name,mood\na.wav,glad\n"}, "a.wav", "b.wav")
    assert [(item.name, dict(item.labels)) for item in utterances(one, tmp_path)] == [("a.wav", {"mood": "glad"})]
    write_tables({"metadata.csv": "file_name,original_file_name\na.wav,b.wav\n"})
    assert [item.labels for item in utterances(one, tmp_path)] == [{"original_file_name": "b.wav"}]
    two = write_tables({"metadata.csv": "noisy_file_name,clean_file_name\na.wav,b.wav\n"})
    with pytest.raises(CorpusError, match="but noisy_file_name and clean_file_name; write into `file_name` which one"):
        list(utterances(two, tmp_path))
    chosen = write_tables({}, file_name="clean_file_name")
    assert [(item.name, dict(item.labels)) for item in utterances(chosen, tmp_path)] == [
        ("b.wav", {"noisy_file_name": "a.wav"})
    ]
