import pytest

from strata.pipeline.corpora import Problem, Utterance
from strata.pipeline.corpora.crema_d import SENTENCES, CremaD, utterances


@pytest.fixture
def section(trees):
    return CremaD(root=trees["crema-d"])


def by_name(section, folder):
    """Labels of every utterance."""
    return {item.name: item.labels for item in utterances(section, folder) if isinstance(item, Utterance)}


def ages_and_genders(section, folder):
    """What the table said of each actor."""
    return {labels["speaker"]: (labels["age"], labels["gender"]) for labels in by_name(section, folder).values()}


def test_labels_by_hand(section, tmp_path):
    """Names and table become labels; an intensity that is not specified is missing, also where its code is cut off."""
    assert by_name(section, tmp_path) == {
        "1001_DFA_ANG_XX": {
            "speaker": "crema-d/1001",
            "transcript": "Don't forget a jacket.",
            "emotion": "anger",
            "intensity": None,
            "gender": "male",
            "age": 51.0,
        },
        "1002_IEO_HAP_HI": {
            "speaker": "crema-d/1002",
            "transcript": "It's eleven o'clock.",
            "emotion": "happiness",
            "intensity": "high",
            "gender": "female",
            "age": 21.0,
        },
        "1040_ITH_SAD_X": {
            "speaker": "crema-d/1040",
            "transcript": "I think I have a doctor's appointment.",
            "emotion": "sadness",
            "intensity": None,
            "gender": "male",
            "age": 42.0,
        },
    }


def test_it_has_twelve_sentences():
    """Each with one text of its own."""
    assert len(SENTENCES) == len(set(SENTENCES.values())) == 12


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("1001_XYZ_ANG_XX", "unknown sentence 'XYZ'; the corpus has IEO, TIE, "),
        ("1001_DFA_JOY_XX", "unknown emotion 'JOY'; the corpus has ANG, DIS, FEA, HAP, NEU, SAD"),
        ("1001_DFA_ANG_YY", "unknown intensity 'YY'; the corpus has LO, MD, HI, XX, X"),
        ("1001_DFA_ANG", "not named <actor>_<sentence>_<emotion>_<intensity>"),
        ("101_DFA_ANG_XX", "not named <actor>_<sentence>_<emotion>_<intensity>"),
        ("1001_DFA_ANG_XX_2", "not named <actor>_<sentence>_<emotion>_<intensity>"),
        ("١٠٠١_DFA_ANG_XX", "not named <actor>_<sentence>_<emotion>_<intensity>"),
    ],
)
def test_unknown_codes_and_names(section, plant, tmp_path, name, reason):
    """Each is listed with what the corpus has instead."""
    plant(section.root, f"AudioWAV/{name}.wav")
    problems = {item.name: item.reason for item in utterances(section, tmp_path) if isinstance(item, Problem)}
    assert problems[f"AudioWAV/{name}.wav"].startswith(reason)


def test_without_the_table(section, tmp_path, capsys):
    """Ages and genders are missing, nothing else is, and one line says what to get and where."""
    before = by_name(section, tmp_path)
    assert "VideoDemographics" not in capsys.readouterr().err
    (section.root / "VideoDemographics.csv").unlink()
    wanted = {name: {**labels, "age": None, "gender": None} for name, labels in before.items()}
    assert by_name(section, tmp_path) == wanted
    (line,) = capsys.readouterr().err.splitlines()
    assert "no VideoDemographics.csv under" in line
    assert "get VideoDemographics.csv from https://github.com/CheyneyComputerScience/CREMA-D and put it into" in line


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"", "has no rows, not ActorID, Age and Sex"),
        (b"ActorID,Age,Sex\n", "has no rows, not ActorID, Age and Sex"),
        (b"ActorID;Age;Sex\n1001;51;Male\n", "has ActorID;Age;Sex, not ActorID, Age and Sex"),
        (b"ActorID,Age,Sex\n1001,51,M\xe4nnlich\n", "cannot be read ("),
    ],
)
def test_a_table_that_cannot_be_used(section, tmp_path, capsys, table, message):
    """Is told in one line; the recordings keep their other labels."""
    (section.root / "VideoDemographics.csv").write_bytes(table)
    assert set(ages_and_genders(section, tmp_path).values()) == {(None, None)}
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("row", "expected", "message"),
    [
        ("1001,old,Male,,", (None, "male"), "actor 1001: 'old' is no age"),
        ("1001,-51,Male,,", (None, "male"), "actor 1001: '-51' is no age"),
        ("1001,nan,Male,,", (None, "male"), "actor 1001: 'nan' is no age"),
        ("1001,51", (51.0, None), "actor 1001: '' is neither Female nor Male"),
        ("1001,51,X,,", (51.0, None), "actor 1001: 'X' is neither Female nor Male"),
        ("1001,51,Male,,\n1001,51,Male,Caucasian,", (51.0, "male"), ""),
        ("1001,51,Male,,\n1001,15,Male,,", (None, "male"), "actor 1001: age is 51.0 and 15.0"),
        ("1001,51,Male,,\n1001,51,Female,,", (51.0, None), "actor 1001: gender is male and female"),
        ("1001,51,Male,,,,,", (51.0, "male"), ""),
        (" 1001 , 51.5 , MALE ,,", (51.5, "male"), ""),
    ],
)
def test_doubtful_rows(section, tmp_path, capsys, row, expected, message):
    """What is no age or no sex, and what rows contradict each other in, is missing for that actor alone, and told."""
    rows = f"\ufeffActorID,Age,Sex,Race,Ethnicity\n{row}\n1002,21,Female,,\n1040,42,Male,,\n"
    (section.root / "VideoDemographics.csv").write_text(rows)
    found = ages_and_genders(section, tmp_path)
    assert found == {"crema-d/1001": expected, "crema-d/1002": (21.0, "female"), "crema-d/1040": (42.0, "male")}
    said = capsys.readouterr().err
    assert message in said
    assert bool(message) == bool(said)


def test_an_actor_whom_the_table_lacks(section, plant, tmp_path, capsys):
    """Has neither age nor gender, and a line says so."""
    plant(section.root, "AudioWAV/1092_DFA_ANG_XX.wav")
    assert ages_and_genders(section, tmp_path)["crema-d/1092"] == (None, None)
    assert "not in VideoDemographics.csv: 1 speakers, the first crema-d/1092" in capsys.readouterr().err


def test_the_table_may_lie_anywhere_but_outside(section, tmp_path, capsys):
    """One in a folder below is found; a link to one outside is not followed without the option."""
    table = section.root / "VideoDemographics.csv"
    (section.root / "tables").mkdir()
    moved = table.rename(section.root / "tables" / table.name)
    assert ages_and_genders(section, tmp_path)["crema-d/1001"] == (51.0, "male")
    outside = moved.rename(tmp_path / table.name)
    table.symlink_to(outside)
    assert ages_and_genders(section, tmp_path)["crema-d/1001"] == (None, None)
    assert "a link leads outside the folder" in capsys.readouterr().err
    open_section = section.model_copy(update={"absolute_paths": True})
    assert ages_and_genders(open_section, tmp_path)["crema-d/1001"] == (51.0, "male")


def test_a_checkout_holds_every_recording_twice(section, plant, tmp_path):
    """The MP3 files beside the WAV files are neither utterances nor problems."""
    before = list(utterances(section, tmp_path))
    plant(section.root, "AudioMP3/1001_DFA_ANG_XX.mp3", "AudioMP3/1002_IEO_HAP_HI.mp3")
    assert list(utterances(section, tmp_path)) == before
