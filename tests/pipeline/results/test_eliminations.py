"""elimination.json and what lies beside it: one schema, written and read."""

import json
from dataclasses import replace

import pytest

from strata.pipeline.results import eliminations
from strata.pipeline.results.eliminations import EliminationResult, Nested, RoundResult, Trail


@pytest.fixture
def found(tmp_path) -> EliminationResult:
    """Three layers, of which two are kept, in two folds and with two seeds."""
    scores = {"mean": 0.5, "speaker": 0.5}
    spreads = {"mean": 0.01, "speaker": 0.01}
    layers = ("0", "5", "11")
    rounds = tuple(
        RoundResult(
            number=number,
            layers=left,
            weights=dict.fromkeys(left, 1 / len(left)),
            valid={task: score + number / 100 for task, score in scores.items()},
            test=scores,
            dropped=left[-1] if len(left) > 1 else None,
            weights_sd=dict.fromkeys(left, 0.02),
            valid_sd=spreads,
            test_sd=spreads,
        )
        for number, left in enumerate((layers, layers[:2], layers[:1]), start=1)
    )
    tested = {"mean": 0.5, "sd": 0.1, "folds": [0.4, 0.6]}
    return EliminationResult(
        name="wavlm",
        view="wavlm",
        tasks=("speaker",),
        pooling="weighted",
        layer_names=layers,
        rounds=rounds,
        support=layers[:2],
        best_round=2,
        config={"view": "wavlm", "seeds": [0, 1]},
        seconds=1.5,
        sizes={"train": 61, "valid": 19, "test": 23},
        provenance={"manifest": "0123", "views": {"wavlm": {"fingerprint": {"family": "transformers"}, "rows": 103}}},
        nested=Nested({"mean": tested, "speaker": tested}, (2, 1), ("weighted", "weighted")),
        trails=(
            Trail("weighted", None, (0.51, 0.52, 0.53), (0.5, None, 0.5), 2, ("11", "5", "0")),
            Trail("weighted", 1, (0.51, 0.52, 0.53), (0.5, 0.5, 0.5), 1, ("5", "11", "0")),
        ),
        ranking={"0": 1, "5": 1, "11": 2},
        identity="4567",
        resolved={"view": "wavlm", "pooling": ["weighted"]},
        folder=tmp_path / "wavlm",
    )


def test_what_is_written_is_read_back(found):
    """Every field of it."""
    eliminations.write_elimination(found)
    assert eliminations.read_elimination(found.file) == found


def test_what_follows_from_it(found):
    """The highest layer kept, the layers that go, and the fingerprint of the view."""
    assert (found.highest, found.is_cut, found.dropped) == ("5", True, ["11"])
    assert found.fingerprint == {"family": "transformers"}
    assert found.best.number == 2
    assert found.nested_mean["folds"] == [0.4, 0.6]
    assert replace(found, provenance={}).fingerprint == {}


def test_a_file_of_an_earlier_version_is_read(found):
    """Without spreads, folds, paths and ranking: what it does not tell is empty."""
    eliminations.write_elimination(found)
    content = json.loads(found.file.read_text())
    for key in ("nested", "paths", "ranking", "cell", "num_train", "num_valid", "num_test"):
        del content[key]
    for each in content["rounds"]:
        for key in ("weights_sd", "valid_sd", "test_sd"):
            del each[key]
    found.file.write_text(json.dumps(content))
    read = eliminations.read_elimination(found.file)
    assert (read.nested, read.trails, read.ranking, read.identity, read.sizes) == (None, (), {}, "", {})
    assert read.best.valid == found.best.valid
    assert read.best.valid_sd == {}


def test_a_new_outcome_takes_nothing_over_from_the_one_before(found):
    """Neither what its cut saved, nor that a view was narrowed to its layers."""
    section = {"family": "transformers", "layers": [0, 5]}
    eliminations.write_elimination(found)
    eliminations.write_narrowed(found.folder, "wavlm", section)
    eliminations.write_savings(found.folder, {"rounds": 3, "layers": "5"})
    assert eliminations.read_narrowed(found.folder) == ("wavlm", section, found)
    eliminations.write_elimination(replace(found, identity="other"))
    assert [path.name for path in found.folder.iterdir()] == ["elimination.json"]
    assert eliminations.read_narrowed(found.folder) is None


def test_what_was_timed_once_stays_where_a_later_look_times_nothing(found):
    """Seconds cost more to know than bytes."""
    eliminations.write_savings(found.folder, {"rounds": 0, "layers": "5"})
    eliminations.write_savings(found.folder, {"rounds": 3, "layers": "5"})
    eliminations.write_savings(found.folder, {"rounds": 0, "layers": "5"})
    assert json.loads((found.folder / eliminations.SAVINGS).read_text())["rounds"] == 3
