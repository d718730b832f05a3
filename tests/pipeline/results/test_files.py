"""What stages write below results/ is what is read from there: one schema for each file."""

import json

import pytest

from strata.pipeline.results import downstream, extractions, searches
from strata.pipeline.results.experiments import FILE, read_metrics, write_metrics
from strata.pipeline.results.extractions import ExtractionResult
from strata.pipeline.results.searches import SearchResult, TrialResult

SCORED = {
    "setup": "SVST",
    "views": ["wavlm"],
    "tasks": {"age": {"rmse": {"mean": 8.5, "sd": 0.5, "folds": [8.0, 9.0]}}},
    "kinds": {"age": "regression"},
    "primary": {"age": "rmse"},
    "chance": {"age": {"rmse": 15.0}},
    "classes": {},
    "folds": {"hash": "0123", "sizes": [53, 48]},
    "truth": {"age": "4567"},
    "num_utterances": 101,
    "num_tested": {"age": 97},
    "num_folds": 2,
    "seeds": [0],
}


def test_the_metrics_of_an_experiment_are_read_as_they_were_written(tmp_path):
    """Scores as the trainers tell them, and what the pipeline knows besides."""
    folder = tmp_path / "results" / "single" / "wavlm"
    write_metrics(
        folder,
        "single/wavlm",
        SCORED,
        corpora=["demo", "mine"],
        layers={"wavlm": ("0", "11")},
        config={"views": ["wavlm"], "encoder": "cnn"},
        seconds=83.12345,
        provenance={"manifest": "89ab"},
        identity="cdef",
        grid={"views": "wavlm"},
    )
    found = read_metrics(folder / FILE, "single/wavlm", "single")
    assert found.is_cell
    assert (found.tasks, found.chance, found.num_tested) == (SCORED["tasks"], SCORED["chance"], {"age": 97})
    assert (found.corpora, found.layers) == (("demo", "mine"), {"wavlm": ("0", "11")})
    assert (found.config["encoder"], found.seconds, found.folder) == ("cnn", {"total": 83.123}, folder)
    assert found.compared == {
        "experiment": "single/wavlm",
        **{key: SCORED[key] for key in ("folds", "tasks", "primary", "truth")},
    }
    written = json.loads((folder / FILE).read_text())
    assert (written["cell"], written["grid"]) == ("cdef", {"views": "wavlm"})


@pytest.mark.parametrize("has_start", [True, False])
def test_a_search_is_read_as_it_was_written(tmp_path, has_start):
    """Trials of every state, the best of them, and the section as it stands, where that lies within the space."""
    trials = (
        TrialResult(0, "complete", {"epochs": 20}, 0.5, {"age": 0.5}, 20, 1.5),
        TrialResult(1, "pruned", {"epochs": 50}, None, {}, 7, 0.5, "worse than the median"),
        TrialResult(2, "complete", {"epochs": 35}, 0.75, {"age": 0.75}, 35, 2.5),
        TrialResult(3, "failed", {"epochs": 5}, None, {}, 0, 0.0, "no memory"),
    )
    found = SearchResult(
        name="rates",
        experiment="tango",
        way="grid",
        space={"epochs": [5, 20, 35, 50]},
        objective="mean validation score over the tasks",
        highest_first=True,
        trials=trials,
        best=2,
        start=0.5 if has_start else None,
        test={"tasks": {"age": 0.7}, "mean": 0.7},
        importance={"epochs": 1.0},
        seconds=4.5,
        config={"tune": {"experiment": "tango"}, "experiment": {"encoder": "cnn"}},
        layers={},
        provenance={"manifest": "89ab"},
        start_params={"epochs": 20} if has_start else None,
        identity="cdef",
    )
    folder = tmp_path / "rates"
    searches.write_search(folder, found)
    assert searches.read_search(folder / searches.FILE) == found
    written = json.loads((folder / searches.FILE).read_text())
    assert written["objective"] == "mean validation score over the tasks, higher is better"
    assert written["best"] == {"number": 2, "params": {"epochs": 35}, "value": 0.75}
    assert (written["start"] is None) is not has_start
    assert written["trials"][0]["reason"] is None


def test_an_extraction_is_read_as_it_was_written_and_an_older_one_too(tmp_path):
    """What an earlier version did not tell is not known; what cannot be read is a gap."""
    found = ExtractionResult("wavlm", 101, 303.0, 12.5, 101, 4_200_000, 1)
    extractions.write_extraction(tmp_path, found)
    older = tmp_path / "results" / "extract" / "mfcc.json"
    older.write_text('{"view": "mfcc", "utterances": 7, "of_old": true}')
    older.with_name("broken.json").write_text("[]")
    gaps = []
    read = extractions.collect(tmp_path, ["wavlm", "mfcc", "broken", "absent"], gaps)
    assert read == {"wavlm": found, "mfcc": ExtractionResult("mfcc", 7)}
    assert [str(gap) for gap in gaps] == [
        "the timings of view broken (results/extract/broken.json cannot be read: ValueError: expected a JSON object, "
        "found a list)"
    ]


def test_a_section_that_was_skipped_says_why(tmp_path):
    """In place of scores; scores that are there later count."""
    folder = tmp_path / "results" / "downstream" / "dialects"
    downstream.write_skipped(folder, "dialects", "no corpus timit")
    gaps = []
    assert downstream.collect(tmp_path, ["dialects"], gaps) == ([], {"dialects": "no corpus timit"})
    assert not gaps
