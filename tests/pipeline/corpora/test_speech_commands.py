import numpy as np
import pytest
import soundfile

from strata.pipeline.corpora import Problem, Utterance
from strata.pipeline.corpora.speech_commands import ADDED, WORDS, SpeechCommands, split_of, utterances


@pytest.fixture
def section(trees):
    return SpeechCommands(root=trees["speech-commands"])


def by_name(section, folder):
    """Labels of every utterance."""
    return {item.name: item.labels for item in utterances(section, folder) if isinstance(item, Utterance)}


def splits(section, folder):
    """Split of every utterance."""
    return {name: labels["split"] for name, labels in by_name(section, folder).items()}


def test_labels_by_hand(section, tmp_path, capsys):
    """The folder is the word, the name begins with the speaker, and the lists say who validates and who tests."""

    def labels(word, speaker, split):
        return {
            "speaker": f"speech-commands/{speaker}",
            "split": split,
            "transcript": word,
            "keyword": word,
        }

    assert by_name(section, tmp_path) == {
        "cat/2aa787cf_nohash_1": labels("cat", "2aa787cf", "test"),
        "five/97ae8b25_nohash_0": labels("five", "97ae8b25", "validation"),
        "no/004ae714_nohash_0": labels("no", "004ae714", "train"),
        "yes/004ae714_nohash_0": labels("yes", "004ae714", "train"),
    }
    assert capsys.readouterr().err == ""


def test_it_has_the_words_of_both_versions():
    """Thirty, and five more."""
    assert (len(WORDS), len(WORDS.keys() - set(ADDED))) == (35, 30)


def test_background_noise_is_no_recording_of_a_word(section, tmp_path):
    """Neither an utterance nor a problem."""
    assert not any("background" in item.name for item in utterances(section, tmp_path))


@pytest.mark.parametrize(
    ("speaker", "split"),
    [
        ("2aa787cf", "test"),
        ("ffa76c4a", "test"),
        ("24ad3ebe", "test"),
        ("d7467392", "test"),
        ("85834399", "test"),
        ("97ae8b25", "validation"),
        ("ad63d93c", "validation"),
        ("f17be97f", "validation"),
        ("bc196f81", "validation"),
        ("b7a6f709", "validation"),
    ],
)
def test_the_rule_gives_the_published_lists(speaker, split):
    """Speakers from `testing_list.txt` and `validation_list.txt` as they were published."""
    assert split_of(speaker) == split


def test_shares_of_the_rule():
    """Ten per cent each for validation and test, of 5,003 made-up speakers."""
    given = [split_of(f"{number:08x}") for number in range(5003)]
    assert 0.08 < given.count("validation") / 5003 < 0.12
    assert 0.08 < given.count("test") / 5003 < 0.12
    assert set(given) == {"train", "validation", "test"}


@pytest.mark.parametrize("missing", ["validation_list.txt", "testing_list.txt"])
def test_without_a_list_the_split_follows_the_rule(section, tmp_path, capsys, missing):
    """For all recordings, also those of the list that is there, and a line says so."""
    (section.root / "validation_list.txt").write_text("no/004ae714_nohash_0.wav\n")
    (section.root / missing).unlink()
    assert splits(section, tmp_path) == {
        "cat/2aa787cf_nohash_1": "test",
        "five/97ae8b25_nohash_0": "validation",
        "no/004ae714_nohash_0": "train",
        "yes/004ae714_nohash_0": "train",
    }
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"no {missing} under")
    assert line.endswith("the split follows the corpus's rule, a hash of the speaker")


def test_the_lists_count_and_not_the_rule(section, tmp_path):
    """Somebody who divides otherwise is followed, with Windows's line ends and in another format too."""
    (section.root / "validation_list.txt").write_bytes(b"yes/004ae714_nohash_0.wav\r\n\r\n")
    recording = section.root / "yes/004ae714_nohash_0.wav"
    recording.rename(recording.with_suffix(".flac"))
    found = splits(section, tmp_path)
    assert found["yes/004ae714_nohash_0"] == "validation"
    assert (found["no/004ae714_nohash_0"], found["five/97ae8b25_nohash_0"]) == ("train", "train")


def test_a_recording_on_both_lists_has_no_split(section, tmp_path, capsys):
    """It can neither validate nor test, and is not for training either; a line says so."""
    (section.root / "validation_list.txt").write_text("cat/2aa787cf_nohash_1.wav\n")
    assert splits(section, tmp_path)["cat/2aa787cf_nohash_1"] is None
    assert "1 recording on both lists, the first cat/2aa787cf_nohash_1" in capsys.readouterr().err


def test_recordings_on_a_list_that_are_not_there(section, tmp_path, capsys):
    """Are told, and what is there is read: copies with some of the words only are common."""
    before = by_name(section, tmp_path)
    (section.root / "testing_list.txt").write_text("cat/2aa787cf_nohash_1.wav\ntree/2aa787cf_nohash_0.wav\n")
    assert by_name(section, tmp_path) == before
    said = capsys.readouterr().err
    assert "its lists name 1 recording that it lacks, the first tree/2aa787cf_nohash_0; the nearest there is " in said


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("maybe/004ae714_nohash_1.wav", "unknown word 'maybe'; the corpus has yes, no, "),
        ("Yes/004ae714_nohash_1.wav", "unknown word 'Yes'; the corpus has yes, no, "),
        ("004ae714_nohash_1.wav", "unknown word 'speech-commands'; the corpus has yes, no, "),
        ("yes/004ae714_1.wav", "not named <word>/<speaker>_nohash_<number>"),
        ("yes/004AE714_nohash_1.wav", "not named <word>/<speaker>_nohash_<number>"),
        ("yes/4ae714_nohash_1.wav", "not named <word>/<speaker>_nohash_<number>"),
        ("yes/004ae714_nohash_١.wav", "not named <word>/<speaker>_nohash_<number>"),
    ],
)
def test_unknown_words_and_names(section, plant, tmp_path, path, reason):
    """Each is listed with what the corpus has instead."""
    plant(section.root, path)
    problems = {item.name: item.reason for item in utterances(section, tmp_path) if isinstance(item, Problem)}
    assert problems[path].startswith(reason)


@pytest.fixture
def noisy(section):
    """The section of twelve classes, of a corpus with three noises of some seconds; one of the files is none."""
    rng = np.random.default_rng(0)
    for name, seconds in {"white_noise": 3.7, "running_tap": 2.0, "doing_the_dishes": 1.3, "pink_noise": 0.9}.items():
        path = section.root / "_background_noise_" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * rng.normal(size=int(seconds * 16_000)), 16_000)
    (section.root / "_background_noise_" / "README.md").write_text("noises")
    (section.root / "_background_noise_" / "exercise_bike.wav").write_bytes(b"RIFF")
    return section.model_copy(update={"classes": "twelve"})


def test_twelve_classes(noisy, tmp_path):
    """Commands keep their names, other words are unknown, and every whole second of noise is silence."""
    items = list(utterances(noisy, tmp_path))
    heard = [item for item in items if isinstance(item, Utterance)]
    assert {item.name: item.labels["keyword"] for item in heard} == {
        "cat/2aa787cf_nohash_1": "_unknown_",
        "five/97ae8b25_nohash_0": "_unknown_",
        "no/004ae714_nohash_0": "no",
        "yes/004ae714_nohash_0": "yes",
        "_silence_/doing_the_dishes#0.0+1.0": "_silence_",
        "_silence_/running_tap#0.0+1.0": "_silence_",
        "_silence_/running_tap#1.0+1.0": "_silence_",
        "_silence_/white_noise#0.0+1.0": "_silence_",
        "_silence_/white_noise#1.0+1.0": "_silence_",
        "_silence_/white_noise#2.0+1.0": "_silence_",
    }
    assert {item.labels["transcript"] for item in heard} == {"cat", "five", "no", "yes", None}
    assert {tuple(item.labels) for item in heard} == {("speaker", "split", "transcript", "keyword")}
    problems = {item.name: item.reason for item in items if isinstance(item, Problem)}
    assert problems["_background_noise_/pink_noise.wav"] == "shorter than a second"
    assert "_background_noise_/exercise_bike.wav" in problems


def test_no_noise_is_on_two_sides(noisy, tmp_path):
    """Each file is of one split, and its seconds do not overlap."""
    silence = [item for item in utterances(noisy, tmp_path) if item.name.startswith("_silence_")]
    assert {(item.audio.stem, item.labels["split"]) for item in silence} == {
        ("white_noise", "train"),
        ("running_tap", "validation"),
        ("doing_the_dishes", "test"),
    }
    assert [(item.start_s, item.duration_s) for item in silence if item.audio.stem == "white_noise"] == [
        (0.0, 1.0),
        (1.0, 1.0),
        (2.0, 1.0),
    ]


def test_twelve_classes_without_noises(section, tmp_path, capsys):
    """Have eleven, and a line says so."""
    for path in (section.root / "_background_noise_").iterdir():
        path.unlink()
    list(utterances(section.model_copy(update={"classes": "twelve"}), tmp_path))
    assert "nothing is of the class _silence_" in capsys.readouterr().err


@pytest.mark.parametrize("classes", ["all", "twelve"])
def test_the_published_test_sets(plant, tmp_path, classes):
    """Their unknown words have the words' own names; silence is for testing, and passed over where words are asked."""
    files = ["yes/2aa787cf_nohash_0.wav", "_unknown_/bed_ffa76c4a_nohash_1.wav", "_silence_/17.wav"]
    section = SpeechCommands(root=plant(tmp_path / "test_set", *files), classes=classes)
    items = {item.name: item.labels for item in utterances(section, tmp_path)}
    bed = items["bed/ffa76c4a_nohash_1"]
    assert (bed["transcript"], bed["speaker"], bed["split"]) == ("bed", "speech-commands/ffa76c4a", "test")
    assert bed["keyword"] == {"all": "bed", "twelve": "_unknown_"}[classes]
    silence = {"speaker": None, "split": "test", "transcript": None, "keyword": "_silence_"}
    assert items.get("_silence_/17") == {"all": None, "twelve": silence}[classes]
    assert items["yes/2aa787cf_nohash_0"]["keyword"] == "yes"


def test_lists_with_backslashes(section, tmp_path):
    """Are those of somebody on Windows."""
    (section.root / "testing_list.txt").write_text("cat\\2aa787cf_nohash_1.wav\n")
    (section.root / "validation_list.txt").write_text("yes\\004ae714_nohash_0.wav\n")
    assert splits(section, tmp_path) == {
        "cat/2aa787cf_nohash_1": "test",
        "five/97ae8b25_nohash_0": "train",
        "no/004ae714_nohash_0": "train",
        "yes/004ae714_nohash_0": "validation",
    }
