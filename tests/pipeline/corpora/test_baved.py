import pytest

from strata.pipeline.corpora import Problem, Utterance
from strata.pipeline.corpora.baved import Baved, utterances


@pytest.fixture
def section(trees):
    return Baved(root=trees["baved"])


def test_labels_by_hand(section, tmp_path):
    """Everything stands in the name: who, what, how."""
    found = {item.name: item.labels for item in utterances(section, tmp_path) if isinstance(item, Utterance)}
    assert found == {
        "25-m-19-0-2-126": {
            "speaker": "baved/25",
            "transcript": "اعجبني",
            "word": "اعجبني",
            "emotion": "high",
            "level": 2.0,
            "gender": "male",
            "age": 19.0,
        },
        "12-f-19-4-0-1079": {
            "speaker": "baved/12",
            "transcript": "رائع",
            "word": "رائع",
            "emotion": "low",
            "level": 0.0,
            "gender": "female",
            "age": 19.0,
        },
    }


@pytest.mark.parametrize("age", ["", "x", "0", "1.5"])
def test_an_age_that_is_no_number(section, plant, tmp_path, age):
    """Is missing, and the other labels are not."""
    plant(section.root, f"0/5-f-{age}-0-1-3.wav")
    (labels,) = [item.labels for item in utterances(section, tmp_path) if item.name == f"5-f-{age}-0-1-3"]
    assert (labels["age"], labels["speaker"], labels["emotion"]) == (None, "baved/5", "neutral")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("5-f-20-0-3-1", "unknown emotion '3'; the corpus has 0, 1, 2"),
        ("5-f-20-7-0-1", "unknown word '7'; the corpus has 0, 1, 2, 3, 4, 5, 6"),
        ("5-x-20-0-0-1", "unknown gender 'x'; the corpus has f, m"),
        ("5-f-20-0-0", "not named <speaker>-<gender>-<age>-<word>-<emotion>-<record>"),
        ("5-f-20-0-0-1-2", "not named <speaker>-<gender>-<age>-<word>-<emotion>-<record>"),
        ("x-f-20-0-0-1", "not named <speaker>-<gender>-<age>-<word>-<emotion>-<record>"),
        ("5-f-20-0-0-1 (copy)", "not named <speaker>-<gender>-<age>-<word>-<emotion>-<record>"),
    ],
)
def test_unknown_codes_and_names(section, plant, tmp_path, name, reason):
    """Each is listed with what the corpus has instead."""
    plant(section.root, f"0/{name}.wav")
    problems = {item.name: item.reason for item in utterances(section, tmp_path) if isinstance(item, Problem)}
    assert problems[f"0/{name}.wav"].startswith(reason)
