import csv
import io
import os
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.pipeline.corpora import CorpusError, Problem, Utterance
from strata.pipeline.corpora.folder import Folder, utterances


def labels(section, folder, column):
    """One label of every row."""
    return [item.labels[column] for item in utterances(section, folder)]


def test_one_row_by_hand(write_folder, tmp_path):
    """A row becomes an utterance with its file, its segment and its labels."""
    section = write_folder(
        "file_name,speaker,split,transcript,start_s,duration_s,mood,age\nx/a.wav,7,train,oh no,1.5,2,glad,31\n",
        "x/a.wav",
    )
    assert list(utterances(section, tmp_path)) == [
        Utterance(
            name="x/a.wav#1.5+2.0",
            audio=tmp_path / "recordings" / "x" / "a.wav",
            labels={"speaker": "7", "split": "train", "transcript": "oh no", "mood": "glad", "age": 31.0},
            start_s=1.5,
            duration_s=2.0,
        )
    ]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["3", "", "-0.5", "1e2"], [3.0, None, -0.5, 100.0]),
        (["3", "five", "", "7"], ["3", "five", None, "7"]),
        (["007", "11", "13", ""], ["007", "11", "13", None]),
        (["0", "0.25", "10", "5"], [0.0, 0.25, 10.0, 5.0]),
        (["nan", "1", "2", "3"], ["nan", "1", "2", "3"]),
        (["1_000", "1", "2", "3"], ["1_000", "1", "2", "3"]),
        (["1e999", "1", "2", "3"], ["1e999", "1", "2", "3"]),
        (["", "", "", ""], [None, None, None, None]),
        (["12345678901234561", "12345678901234562", "", "5"], ["12345678901234561", "12345678901234562", None, "5"]),
        (["9007199254740993", "1.5", "", ""], ["9007199254740993", "1.5", None, None]),
        (["1234567890123456", "1234567890123457", "", ""], [1234567890123456.0, 1234567890123457.0, None, None]),
        (["0.1", "0.10000000000000001", "", ""], ["0.1", "0.10000000000000001", None, None]),
        (["1e5", "100000", "", ""], [1e5, 1e5, None, None]),
    ],
)
def test_numbers_and_text(write_folder, tmp_path, cells, expected):
    """A column is numeric if all its values are plain finite numbers, and text if one of them has a leading zero."""
    files = [f"{index}.wav" for index in range(len(cells))]
    rows = "".join(f"{name},{cell}\n" for name, cell in zip(files, cells, strict=True))
    assert labels(write_folder("file_name,label\n" + rows, *files), tmp_path, "label") == expected


def test_speakers_splits_and_transcripts_are_text(write_folder, tmp_path):
    """The reserved columns stay text even where all values are numbers."""
    section = write_folder("file_name,speaker,split,transcript\na.wav,3,5,7\n", "a.wav")
    (item,) = utterances(section, tmp_path)
    assert item.labels == {"speaker": "3", "split": "5", "transcript": "7"}


def test_what_spreadsheets_write(write_folder, tmp_path):
    """A byte-order mark, CRLF, quoted commas and quotes, stray spaces and blank lines are all read."""
    text = '\ufefffile_name, mood ,transcript\r\n"a, b.wav",glad, "well, ""yes"""\r\n\r\nc.wav , sad,\r\n,,\r\n'
    section = write_folder(text.encode(), "a, b.wav", "c.wav")
    items = list(utterances(section, tmp_path))
    assert [item.name for item in items] == ["a, b.wav", "c.wav"]
    assert [dict(item.labels) for item in items] == [
        {"mood": "glad", "transcript": 'well, "yes"'},
        {"mood": "sad", "transcript": None},
    ]


def test_names_tell_extensions_folders_and_segments_apart(write_folder, tmp_path):
    """The same stem with another extension, in another folder or at another time is another utterance."""
    rows = "file_name,start_s,duration_s\na.wav,,\na.flac,,\nb/a.wav,,\na.wav,1.5,\na.wav,1.5,2\na.wav,,2\n"
    section = write_folder(rows, "a.wav", "a.flac", "b/a.wav")
    names = [item.name for item in utterances(section, tmp_path)]
    assert names == ["a.wav", "a.flac", "b/a.wav", "a.wav#1.5", "a.wav#1.5+2.0", "a.wav#0.0+2.0"]


@pytest.mark.parametrize(
    ("row", "name", "reason"),
    [
        ("/etc/passwd,3", "/etc/passwd", "lies outside the folder; absolute paths are read where absolute_paths is"),
        ("../b.wav,3", "../b.wav", 'lies outside the folder; paths with ".." are never read'),
        ("x/../../b.wav,3", "x/../../b.wav", "lies outside the folder"),
        ("gone.wav,3", "gone.wav", "no such file"),
        ("x,3", "x", "no such file"),
        (f"{'long' * 99}.wav,3", f"{'long' * 99}.wav", "no such file"),
        ("\0.wav,3", "\0.wav", "no such file"),
        (",3", "metadata.csv:3", "no file_name"),
        ("x/b.wav,3,5,7,9", "x/b.wav", "5 cells under 4 columns"),
        ("./a.wav,3", "a.wav", "the same recording as in line 2"),
        ("x/b.wav,3,soon", "x/b.wav", "start_s is 'soon'"),
        ("x/b.wav,3,-1", "x/b.wav", "start_s is '-1'"),
        ("x/b.wav,3,,0", "x/b.wav", "duration_s is 0"),
        ("x/b.wav,3,,1e-999", "x/b.wav", "duration_s is '1e-999', not a number of seconds"),
        ("X/B.wav,3", "X/B.wav", "; the nearest there is x/b.wav"),
    ],
)
def test_bad_row_is_listed_and_the_rest_read(write_folder, tmp_path, row, name, reason):
    """A row that cannot be used becomes a problem with its line, and changes nothing about the other rows."""
    section = write_folder(
        f"file_name,age,start_s,duration_s\na.wav,2,,\n{row}\nx/c.wav,5,,\n", "a.wav", "x/b.wav", "x/c.wav"
    )
    first, problem, last = utterances(section, tmp_path)
    assert isinstance(problem, Problem)
    assert problem.name == name
    assert problem.reason.startswith("metadata.csv line 3: ")
    assert reason in problem.reason
    assert [(item.name, item.labels["age"]) for item in (first, last)] == [("a.wav", 2.0), ("x/c.wav", 5.0)]


def test_what_is_there_and_no_file_is_not_called_absent(write_folder, tmp_path):
    """A link that leads nowhere and a pipe are named as what they are, and are not their own nearest names."""
    section = write_folder("file_name\na.wav\nlink.wav\npipe.wav\n", "a.wav")
    root = next(tmp_path.rglob("a.wav")).parent
    (root / "link.wav").symlink_to("gone.wav")
    os.mkfifo(root / "pipe.wav")
    _, link, pipe = utterances(section, tmp_path)
    assert link.reason.startswith("metadata.csv line 3: link.wav is a link that leads nowhere, to gone.wav; mend")
    assert pipe.reason.startswith("metadata.csv line 4: not a file: ")
    assert "nearest" not in link.reason + pipe.reason


def test_a_path_outside_is_never_looked_at(write_folder, tmp_path):
    """A file that exists outside the root is refused all the same, and no path to it is handed on."""
    (tmp_path / "secret.wav").write_bytes(b"RIFF")
    (problem,) = utterances(write_folder("file_name\n../secret.wav\n"), tmp_path)
    assert isinstance(problem, Problem)
    assert problem.audio is None


def test_absolute_paths_where_they_are_allowed(write_folder, tmp_path):
    """With the option, an absolute path is read and names its utterance; ".." and missing files stay refused."""
    (tmp_path / "elsewhere.wav").write_bytes(b"RIFF")
    rows = [f"{tmp_path}/elsewhere.wav", "a.wav", "../elsewhere.wav", f"{tmp_path}/x/../elsewhere.wav", "/no/such.wav"]
    section = write_folder("file_name\n" + "\n".join(rows), "a.wav").model_copy(update={"absolute_paths": True})
    outside, inside, *refused = utterances(section, tmp_path)
    assert (outside.name, outside.audio) == (rows[0], tmp_path / "elsewhere.wav")
    assert (inside.name, inside.audio) == ("a.wav", tmp_path / "recordings" / "a.wav")
    assert [problem.name for problem in refused] == rows[2:]
    assert [problem.reason.split("; ")[-1] for problem in refused[:2]] == ['paths with ".." are never read'] * 2
    assert "no such file: /no/such.wav" in refused[2].reason


def test_links_that_lead_outside(write_folder, tmp_path):
    """A link to a file or a folder outside the root is refused, and read with the option; one that stays inside is
    read, also where the root itself is a link."""
    section = write_folder("file_name\nlink.wav\nfolder/b.wav\ninside.wav\n", "a.wav")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "b.wav").write_bytes(b"RIFF")
    root = (tmp_path / "recordings").rename(tmp_path / "moved")
    (tmp_path / "recordings").symlink_to(root)
    (root / "link.wav").symlink_to(tmp_path / "shared" / "b.wav")
    (root / "folder").symlink_to(tmp_path / "shared")
    (root / "inside.wav").symlink_to("a.wav")
    *refused, inside = utterances(section, tmp_path)
    assert inside.name == "inside.wav"
    for line, problem in enumerate(refused, start=2):
        assert problem.reason == (
            f"metadata.csv line {line}: a link leads outside the folder, to {tmp_path}/shared/b.wav; "
            "it is followed where absolute_paths is true"
        )
    names = [item.name for item in utterances(section.model_copy(update={"absolute_paths": True}), tmp_path)]
    assert names == ["link.wav", "folder/b.wav", "inside.wav"]


def test_short_row_lacks_its_last_labels(write_folder, tmp_path):
    """A row that ends early has null for the labels it leaves out."""
    section = write_folder("file_name,mood,age\na.wav,glad,31\nb.wav\n", "a.wav", "b.wav")
    assert labels(section, tmp_path, "mood") == ["glad", None]
    assert labels(section, tmp_path, "age") == [31.0, None]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("", "no header"),
        ("file_name,age\n", "a header and no rows"),
        ("path,age\na.wav,3\n", "no column file_name, only path, age"),
        ("file_name;age\na.wav;3\n", "columns end at commas"),
        ("file_name,,age\na.wav,1,3\n", "column 2 has no name"),
        ("file_name,age,age\na.wav,1,3\n", "the column age more than once"),
        ("file_name,audio\na.wav,b\n", "the column audio, which the manifest fills in by itself; rename it"),
        ('file_name,age\n"a.wav,3\n', "line 2: unexpected end of data"),
        ("file_name,mood\na.wav,schön\n".encode("latin-1"), r"not UTF-8 \(at byte 24\)"),
    ],
)
def test_unreadable_table(write_folder, tmp_path, metadata, message):
    """A table that cannot be read as a whole is refused in one line that says what to do."""
    with pytest.raises(CorpusError, match=message) as error:
        list(utterances(write_folder(metadata, "a.wav"), tmp_path))
    assert "\n" not in str(error.value)
    assert "metadata.csv" in str(error.value)


def test_a_root_that_is_a_link_that_leads_nowhere(tmp_path):
    """It is told with its target, and is not "no such folder" alone."""
    (tmp_path / "recordings").symlink_to("/no/such/disk")
    with pytest.raises(CorpusError, match=r"recordings, a link that leads nowhere, to /no/such/disk; mend the link"):
        list(utterances(Folder(root="recordings"), tmp_path))


def test_missing_folder_or_table(tmp_path):
    """A root that is not there, and one without metadata.csv, are told apart."""
    with pytest.raises(CorpusError, match=r"no such folder: .*recordings"):
        list(utterances(Folder(root="recordings"), tmp_path))
    (tmp_path / "recordings").mkdir()
    with pytest.raises(
        CorpusError, match=r"no metadata\.csv in .*recordings, nor metadata\.jsonl or metadata\.parquet"
    ):
        list(utterances(Folder(root="recordings"), tmp_path))


def test_root_may_be_absolute_or_in_the_home_folder(tmp_path, monkeypatch):
    """An absolute root stands for itself, and ~ for the user's home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Folder(root="/srv/audio").watched(tmp_path) == Folder(root="/srv/audio").root
    assert Folder(root="~/audio").watched(tmp_path / "study") == tmp_path / "audio"
    assert Folder(root="../audio").watched(tmp_path / "study") == tmp_path / "study" / ".." / "audio"


texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=7)
texts = texts.map(lambda text: unicodedata.normalize("NFC", text))  # the one form that labels have


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all examples: a new one for each took most of their time."""
    return tmp_path_factory.mktemp("study")


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(texts, texts, st.floats(0, 1e9) | st.none()), min_size=1, max_size=5))
def test_round_trip(folder, rows):
    """Whatever a CSV writer writes as labels is what the adapter reads."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["file_name", "speaker", "transcript", "age"])
    for index, (speaker, transcript, age) in enumerate(rows):
        (folder / f"{index}.wav").touch()
        writer.writerow([f"{index}.wav", speaker, transcript, age])
    (folder / "metadata.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    items = list(utterances(Folder(root="."), folder))
    assert [(item.labels["speaker"], item.labels["transcript"], item.labels["age"]) for item in items] == rows


@pytest.mark.parametrize(
    ("columns", "cells", "segment"),
    [
        ("start_s,end_s", "0,0.25", (0.0, 0.25)),
        ("start_s,end_s", "0.1,0.3", (0.1, 0.2)),
        ("start_s,end_s", "1.5,", (1.5, None)),
        ("end_s", "0.25", (0.0, 0.25)),
        ("start_s,duration_s,end_s", "1,2,3", (1.0, 2.0)),
        ("start_s,duration_s,end_s", "1,0.33333,1.3333", (1.0, 0.33333)),
        ("start_s,duration_s,end_s", "1,,3", (1.0, 2.0)),
        ("start_s,duration_s,end_s", "1,2,", (1.0, 2.0)),
    ],
)
def test_a_stretch_may_be_told_by_its_end(write_folder, tmp_path, columns, cells, segment):
    """Start and end cut as start and duration do, and make no label; with both, they agree."""
    (item,) = utterances(write_folder(f"file_name,{columns}\na.wav,{cells}\n", "a.wav"), tmp_path)
    assert (item.start_s, item.duration_s) == segment
    assert item.labels == {}


def test_a_stretch_has_one_name_however_it_is_told(write_folder, tmp_path):
    """So that the same stretch twice is seen, and keeps its name when a table is rewritten."""
    section = write_folder("file_name,start_s,duration_s,end_s\na.wav,0.1,,0.3\na.wav,0.1,0.2,\n", "a.wav")
    first, second = utterances(section, tmp_path)
    assert first.name == "a.wav#0.1+0.2"
    assert "the same recording as in line 2" in second.reason


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("1,2,4", "start_s 1, duration_s 2 and end_s 4 contradict each other"),
        ("1,,1", "end_s 1 is not after start_s 1"),
        ("3,,1", "end_s 1 is not after start_s 3"),
        ("1,,later", "end_s is 'later', not a number of seconds"),
        ("1,,inf", "end_s is 'inf', not a number of seconds"),
        (",0,0", "duration_s is 0"),
    ],
)
def test_a_stretch_that_cannot_be(write_folder, tmp_path, cells, reason):
    """Is listed with what contradicts what."""
    (problem,) = utterances(write_folder(f"file_name,start_s,duration_s,end_s\na.wav,{cells}\n", "a.wav"), tmp_path)
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ("start,end", "start and end"),
        ("start_s,end", "start_s and end"),
        ("start_s,duration", "start_s and duration"),
        ("start,end_s", "start and end_s"),
        ("start_ms,end_ms", "start_ms and end_ms"),
        ("Start_Time,End_Time", "Start_Time and End_Time"),
        ("onset,duration", "onset and duration"),
        ("offset_sec,duration_sec", "offset_sec and duration_sec"),
    ],
)
def test_columns_that_seem_to_cut_and_do_not(write_folder, tmp_path, columns, named):
    """Are refused with what they should be called, instead of whole files for every row of theirs."""
    section = write_folder(f"file_name,{columns}\na.wav,1,2\n", "a.wav")
    with pytest.raises(CorpusError, match=f"has the columns {named}: .* start_s and end_s, or start_s and duration_s"):
        list(utterances(section, tmp_path))


@pytest.mark.parametrize("columns", ["duration", "start", "end", "offset", "ending,starter"])
def test_columns_that_are_labels_after_all(write_folder, tmp_path, columns):
    """One of them alone cuts nothing."""
    section = write_folder(f"file_name,{columns}\na.wav,1,2\n".replace(",1,2", ",1" * len(columns.split(","))), "a.wav")
    (item,) = utterances(section, tmp_path)
    assert list(item.labels) == columns.split(",")


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "1e999", "NA", "1e-400"])
def test_what_is_no_number_among_numbers_is_told(write_folder, tmp_path, capsys, value):
    """With its line: it makes classes of what may have been meant as quantities."""
    rows = f"file_name,age\na.wav,31\nb.wav,{value}\nc.wav,37\n"
    assert labels(write_folder(rows, "a.wav", "b.wav", "c.wav"), tmp_path, "age") == ["31", value, "37"]
    said = capsys.readouterr().err
    assert f"metadata.csv line 3: age is {value!r}, one of 1 among numbers; so the whole column is text" in said


@pytest.mark.parametrize("values", [["31", "five", "nan"], ["31", "", "37"], ["nan", "inf", "nan"]])
def test_words_and_gaps_are_not_told(write_folder, tmp_path, capsys, values):
    """A column of words is one of words."""
    rows = "file_name,age\n" + "".join(
        f"{name},{v}\n" for name, v in zip(["a.wav", "b.wav", "c.wav"], values, strict=True)
    )
    list(utterances(write_folder(rows, "a.wav", "b.wav", "c.wav"), tmp_path))
    assert capsys.readouterr().err == ""


NFC, NFD = (unicodedata.normalize(form, "Gefühl") for form in ("NFC", "NFD"))


def test_labels_and_columns_have_one_normal_form(write_folder, tmp_path):
    """One word is one class, and one column one label, in whatever form a table has them."""
    rows = f"file_name,speaker,{NFD}\na.wav,{NFD},{NFC}\nb.wav,{NFC},{NFD}\n"
    items = list(utterances(write_folder(rows, "a.wav", "b.wav"), tmp_path))
    assert [dict(item.labels) for item in items] == [{"speaker": NFC, NFC: NFC}] * 2


@pytest.mark.parametrize(("in_table", "on_disk"), [(NFC, NFD), (NFD, NFC)])
def test_a_table_in_another_form_than_the_files(write_folder, tmp_path, capsys, in_table, on_disk):
    """Its recordings are found and none is said to be missing from it; their names are NFC."""
    section = write_folder(f"file_name\n{in_table}/{in_table}.wav\n", f"{on_disk}/{on_disk}.wav")
    (item,) = utterances(section, tmp_path)
    assert item == Utterance(f"{NFC}/{NFC}.wav", tmp_path / "recordings" / on_disk / f"{on_disk}.wav")
    assert capsys.readouterr().err == ""


def test_two_files_whose_names_differ_in_form_alone(write_folder, tmp_path):
    """Cannot have one name: the second is listed with what to do."""
    first, second = utterances(write_folder(f"file_name\n{NFC}.wav\n{NFD}.wav\n", f"{NFC}.wav", f"{NFD}.wav"), tmp_path)
    assert first.audio.name == f"{NFC}.wav"
    assert "its name is that of metadata.csv line 2 in another of Unicode's forms; rename one file" in second.reason


def test_backslashes(write_folder, tmp_path, capsys):
    """A table from Windows names the same recordings."""
    items = list(utterances(write_folder("file_name\nwav\\a.wav\n.\\b.wav\n", "wav/a.wav", "b.wav"), tmp_path))
    assert [item.name for item in items] == ["wav/a.wav", "b.wav"]
    assert capsys.readouterr().err == ""


def test_recordings_that_no_table_has_are_told(write_folder, tmp_path, capsys):
    """But for what macOS leaves beside them."""
    list(utterances(write_folder("file_name\na.wav\n", "a.wav", "x/b.wav", "._a.wav"), tmp_path))
    assert "recordings and left out: 1 recording, the first x/b.wav" in capsys.readouterr().err


def test_a_folder_whose_name_was_mistyped(tmp_path):
    """Is told with the nearest one, as params.yaml would name it."""
    (tmp_path / "Recordings").mkdir()
    (tmp_path / "study").mkdir()
    for study, written, there in ((".", "recording", "Recordings"), ("study", "../recording", "../Recordings")):
        with pytest.raises(CorpusError, match=rf"no such folder: .*recording, did you mean '{there}'\?; `root` is"):
            list(utterances(Folder(root=written), tmp_path / study))
