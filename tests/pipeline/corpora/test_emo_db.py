import pytest

from strata.pipeline.corpora import Problem, Utterance
from strata.pipeline.corpora.emo_db import SPEAKERS, TEXTS, EmoDB, utterances


@pytest.fixture
def section(trees):
    return EmoDB(root=trees["emo-db"])


def by_name(section, folder):
    """Labels of every utterance."""
    return {item.name: item.labels for item in utterances(section, folder) if isinstance(item, Utterance)}


def test_labels_by_hand(section, tmp_path):
    """The name says who, which text, which emotion and which version; the rest is known of the ten speakers."""
    assert by_name(section, tmp_path) == {
        "03a01Fa": {
            "speaker": "emo-db/03",
            "transcript": "Der Lappen liegt auf dem Eisschrank.",
            "emotion": "happiness",
            "version": "a",
            "gender": "male",
            "age": 31.0,
        },
        "16b10Lb": {
            "speaker": "emo-db/16",
            "transcript": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
            "emotion": "boredom",
            "version": "b",
            "gender": "female",
            "age": 31.0,
        },
    }


@pytest.mark.parametrize(
    ("letter", "emotion"),
    [
        ("W", "anger"),
        ("L", "boredom"),
        ("E", "disgust"),
        ("A", "fear"),
        ("F", "happiness"),
        ("T", "sadness"),
        ("N", "neutral"),
    ],
)
def test_letters_are_those_of_the_german_words(section, plant, tmp_path, letter, emotion):
    """Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral."""
    plant(section.root, f"wav/08a02{letter}c.wav")
    assert by_name(section, tmp_path)[f"08a02{letter}c"]["emotion"] == emotion


def test_its_tables():
    """Ten texts, and five women and five men of 21 to 35 years."""
    assert len(set(TEXTS.values())) == 10
    genders, ages = zip(*SPEAKERS.values(), strict=True)
    assert sorted(genders) == ["female"] * 5 + ["male"] * 5
    assert (min(ages), max(ages)) == (21.0, 35.0)


def test_a_name_without_a_version(section, plant, tmp_path):
    """Has none: only texts that were said several times need one."""
    plant(section.root, "wav/08a02N.wav")
    assert by_name(section, tmp_path)["08a02N"]["version"] is None


def test_an_unknown_speaker(section, plant, tmp_path, capsys):
    """Has neither age nor gender, and a line says so."""
    plant(section.root, "wav/17a02Na.wav")
    labels = by_name(section, tmp_path)["17a02Na"]
    assert (labels["speaker"], labels["age"], labels["gender"]) == ("emo-db/17", None, None)
    assert "not in emo-DB's list of speakers: 1 speakers, the first emo-db/17" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("03a03Fa", "unknown text 'a03'; the corpus has a01, a02, a04, "),
        ("03a01Xa", "unknown emotion 'X'; the corpus has W, L, E, A, F, T, N"),
        ("3a01Fa", "not named <speaker><text><emotion><version>"),
        ("03a01fa", "not named <speaker><text><emotion><version>"),
        ("03a01Fab", "not named <speaker><text><emotion><version>"),
    ],
)
def test_unknown_codes_and_names(section, plant, tmp_path, name, reason):
    """Each is listed with what the corpus has instead."""
    plant(section.root, f"wav/{name}.wav")
    problems = {item.name: item.reason for item in utterances(section, tmp_path) if isinstance(item, Problem)}
    assert problems[f"wav/{name}.wav"].startswith(reason)
