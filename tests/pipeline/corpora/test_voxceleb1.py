import pytest

from strata.pipeline.corpora import Problem, Utterance
from strata.pipeline.corpora.voxceleb1 import VoxCeleb1, utterances


@pytest.fixture
def section(trees):
    return VoxCeleb1(root=trees["voxceleb1"])


def by_name(section, folder):
    """Labels of every utterance."""
    return {item.name: item.labels for item in utterances(section, folder) if isinstance(item, Utterance)}


def column(section, folder, *labels):
    """Some labels of every speaker."""
    return {name.split("/")[0]: tuple(each[x] for x in labels) for name, each in by_name(section, folder).items()}


def test_labels_by_hand(section, tmp_path):
    """Folders and tables become labels, of dev and test alike."""
    assert by_name(section, tmp_path) == {
        "id10001/1zcIwhmdeo4/00001": {
            "speaker": "voxceleb1/id10001",
            "split": "train",
            "video": "1zcIwhmdeo4",
            "gender": "male",
            "nationality": "Ireland",
        },
        "id10003/na8-QEFmj44/00001": {
            "speaker": "voxceleb1/id10003",
            "split": "test",
            "video": "na8-QEFmj44",
            "gender": "male",
            "nationality": "India",
        },
        "id10270/5r0dWxy17C8/00001": {
            "speaker": "voxceleb1/id10270",
            "split": "validation",
            "video": "5r0dWxy17C8",
            "gender": "female",
            "nationality": "USA",
        },
    }


@pytest.mark.parametrize(
    ("table", "lacking"),
    [("iden_split.txt", {"split": None}), ("vox1_meta.csv", {"gender": None, "nationality": None})],
)
def test_without_a_table(section, tmp_path, capsys, table, lacking):
    """Its labels are missing, no others are, and one line says what to get and where."""
    before = by_name(section, tmp_path)
    assert capsys.readouterr().err == ""
    (section.root / table).unlink()
    assert by_name(section, tmp_path) == {name: labels | lacking for name, labels in before.items()}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"no {table} under")
    assert f"get {table} from https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta and put it into" in line


def test_the_split_table_may_have_doubtful_rows(section, tmp_path, capsys):
    """A row of another form counts for nothing, rows that contradict each other neither; both are told."""
    (section.root / "iden_split.txt").write_text(
        "1 id10001/1zcIwhmdeo4/00001.wav\n4 id10003/na8-QEFmj44/00001.wav\n"
        "2 id10270/5r0dWxy17C8/00001.wav\n3 id10270/5r0dWxy17C8/00001.wav\n"
    )
    found = column(section, tmp_path, "split")
    assert found == {"id10001": ("train",), "id10003": (None,), "id10270": (None,)}
    wrong, contradictory, unknown = capsys.readouterr().err.splitlines()
    assert "1 row not as in '1 id10001/1zcIwhmdeo4/00001.wav', the first '4 id10003/" in wrong
    assert contradictory.startswith("iden_split.txt contradicts itself about 1, the first id10270/5r0dWxy17C8/00001")
    assert unknown == ("not in iden_split.txt: 2 recordings, the first id10003/na8-QEFmj44/00001; they have no split")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"", "is empty: utterances have no gender and no nationality; get vox1_meta.csv from"),
        (b"\n \n", "is empty: "),
        (b"ID,Gender,Nationality\nid10001,m,Ireland\n", "has 'ID,Gender,Nationality', not VoxCeleb1 ID, Gender and"),
        (b"VoxCeleb1 ID\tGender\tNationality\n", "not in vox1_meta.csv: 3 speakers, the first id10001; they have no"),
    ],
)
def test_a_table_of_speakers_that_cannot_be_used(section, tmp_path, capsys, table, message):
    """Is told in one line; the recordings keep their other labels."""
    (section.root / "vox1_meta.csv").write_bytes(table)
    assert set(column(section, tmp_path, "gender", "nationality").values()) == {(None, None)}
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("row", "expected", "message"),
    [
        (
            "id10001\tA\tx\tIreland\tdev",
            (None, "Ireland"),
            "1 genders are neither f nor m, the first that of 'id10001'",
        ),
        ("id10001\tA", (None, None), "1 genders are neither f nor m"),
        ("id10001\tA\tm\t\tdev", ("male", None), ""),
        (" id10001 \tA\tm\tNew Zealand \tdev \r", ("male", "New Zealand"), ""),
        (
            "id10001\tA\tm\tUK\tdev\nid10001\tA\tm\tUSA\tdev",
            (None, None),
            "contradicts itself about 1, the first id10001",
        ),
        ("id10001\tA\tm\tUK\tdev\nid10001\tA\tm\tUK\tdev", ("male", "UK"), ""),
        ("id10002\tA\tm\tUK\tdev", (None, None), "not in vox1_meta.csv: 1 speakers, the first id10001"),
    ],
)
def test_doubtful_speakers(section, tmp_path, capsys, row, expected, message):
    """What cannot be used is missing for that speaker alone, and told."""
    (section.root / "vox1_meta.csv").write_text(
        "\ufeffVoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
        f"{row}\nid10003\tB\tm\tIndia\tdev\nid10270\tC\tf\tUSA\ttest\n"
    )
    found = column(section, tmp_path, "gender", "nationality")
    assert found == {"id10001": expected, "id10003": ("male", "India"), "id10270": ("female", "USA")}
    said = capsys.readouterr().err
    assert message in said
    assert bool(message) == bool(said)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("id00012/21Uxsk56VDQ/00002.wav", "unknown speaker 'id00012'; the corpus has id10001 to id11251"),
        ("id11252/21Uxsk56VDQ/00002.wav", "unknown speaker 'id11252'; the corpus has id10001 to id11251"),
        ("A.J._Buckley/1zcIwhmdeo4/0000001.wav", "not named <speaker>/<video>/<number>"),
        ("id10001/1zcIwhmdeo4/1.wav", "not named <speaker>/<video>/<number>"),
        ("id10001/00002.wav", "not named <speaker>/<video>/<number>"),
        ("id10001/1zcIwhmdeo4x/00002.wav", "not named <speaker>/<video>/<number>"),
    ],
)
def test_unknown_speakers_and_names(section, plant, tmp_path, path, reason):
    """Each is listed with what the corpus has instead: VoxCeleb2 numbers its speakers otherwise."""
    plant(section.root, path)
    problems = {item.name: item.reason for item in utterances(section, tmp_path) if isinstance(item, Problem)}
    assert problems[path].startswith(reason)


@pytest.mark.parametrize("number", [10001, 11251])
def test_first_and_last_speaker(section, plant, tmp_path, number):
    """Belong to the corpus."""
    plant(section.root, f"id{number}/21Uxsk56VDQ/00002.wav")
    assert f"id{number}/21Uxsk56VDQ/00002" in by_name(section, tmp_path)


def test_a_list_with_backslashes(section, tmp_path):
    """Is that of somebody on Windows."""
    before = column(section, tmp_path, "split")
    table = section.root / "iden_split.txt"
    table.write_text(table.read_text().replace("/", "\\"))
    assert column(section, tmp_path, "split") == before
