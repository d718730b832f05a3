"""`strata tune` on a folder of tones: what it writes, and what it takes to begin anew."""

import json
import os
import re
import signal
import time
from copy import copy

import pytest
import yaml
from pydantic import create_model

from strata.store.lock import exclusive
from strata.trainers.spec import Experiment
from tests.pipeline import forks


@pytest.fixture
def tuning(study):
    """A study of two quick views, extracted, with a search of three trials."""
    study.params["views"] = {name: {"family": "mfcc", "num_coefficients": n} for name, n in (("a", 20), ("b", 7))}
    study.params["eliminate"] = {}
    study.params["experiments"] = {
        "base": {
            "views": ["a"],
            "tasks": ["speaker", "pitch"],
            "encoder": "mlp",
            "hidden": [13],
            "folds": {"k": 2, "stratify": "speaker", "validation": 0.25},
            "epochs": 3,
        }
    }
    study.params["tune"] = {
        "rates": {
            "experiment": "base",
            "space": {"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}, "hidden": [[13], [29, 17]]},
            "trials": 3,
        }
    }
    study.write_params()
    study.succeeds("corpus")
    study.succeeds("extract")
    return study


def found(study, name: str = "rates") -> dict:
    """A search's result."""
    return json.loads((study.folder / "results" / "tune" / name / "tune.json").read_text())


def bare(study) -> list[dict]:
    """Its trials, without what no two runs share."""
    return [trial | {"seconds": 0} for trial in found(study)["trials"]]


def change(study, **values) -> None:
    """Other values in the section of the search."""
    study.params["tune"]["rates"] |= values
    study.write_params()


def journal(study):
    """Where trials are noted."""
    return study.folder / "results" / "tune" / "rates" / "trials.jsonl"


def test_a_search_leaves_its_trials_and_what_to_write_into_the_section(tuning):
    """All that the report needs; the lines that it says lead to the very model that was tested; once is enough."""
    written = (tuning.folder / "params.yaml").read_text()
    said = tuning.succeeds("tune")
    assert (tuning.folder / "params.yaml").read_text() == written
    result = found(tuning)
    assert list(result) == [
        *("name", "experiment", "search", "space", "objective", "trials", "best", "start", "test", "importance"),
        *("config", "seconds", "provenance", "cell"),
    ]
    assert [list(trial) for trial in result["trials"]] == 3 * [
        ["number", "state", "params", "value", "tasks", "epochs", "seconds", "reason"]
    ]
    assert result["trials"][0]["params"] == {"learning_rate": 1e-3, "hidden": [13]} == result["start"]["params"]
    best = result["trials"][result["best"]["number"]]
    assert result["best"] == {key: best[key] for key in ("number", "params", "value")}
    assert best["value"] == max(trial["value"] for trial in result["trials"])
    assert result["test"].keys() == {"tasks", "mean"}
    assert set(result["importance"]) <= {"learning_rate", "hidden"}
    assert result["provenance"]["versions"].keys() >= {"torch", "optuna"}
    assert "that test is the honest one; the other fold tests utterances that the search has seen" in said
    lines = [line for line in said.splitlines() if line.startswith("rates: trial ")]
    for number, (line, trial) in enumerate(zip(lines, result["trials"], strict=True)):
        is_better = trial["value"] > max((t["value"] for t in result["trials"][:number]), default=-9e9)
        assert line.startswith(f"rates: trial {number + 1} of 3: {trial['value']:.4f}")
        assert line.endswith("not better") != is_better
    assert tuning.succeeds("tune") == "rates: up to date\n"
    # A value that the section does not have, so that there is something to write.
    change(tuning, space={"learning_rate": [0.03], "head": {"low": 3, "high": 17}})
    said = tuning.succeeds("tune", "rates")
    fragment = yaml.safe_load(said.split("write into experiments.base: ")[1])
    assert fragment == found(tuning)["best"]["params"]
    tuning.params["experiments"]["base"] |= fragment
    tuning.write_params()
    tuning.succeeds("train")
    accuracy = tuning.metrics("base")["tasks"]["speaker"]["accuracy"]
    assert found(tuning)["test"]["tasks"]["speaker"] == accuracy["folds"][0]


def test_more_trials_go_on_and_anything_else_begins_anew(tuning):
    """What is asked besides their number makes other trials of them; those so far are put aside, and a line says so."""
    tuning.succeeds("tune")
    first = bare(tuning)
    change(tuning, trials=5)
    assert "rates: 5 trials of base, 24 utterances" in (said := tuning.succeeds("tune"))
    assert "; 3 are there" in said
    assert bare(tuning)[:3] == first
    extended = bare(tuning)
    change(tuning, seed=1)
    said = tuning.succeeds("tune")
    assert "it begins anew; the 5 trials so far are in" in said
    assert "are there" not in said
    assert bare(tuning)[0] == first[0]  # the section as it stands
    assert bare(tuning)[1] != first[1]
    assert len(journal(tuning).with_name("trials.previous.jsonl").read_text().splitlines()) == 6
    change(tuning, seed=0)
    tuning.succeeds("tune")
    assert bare(tuning) == extended


def test_a_killed_search_goes_on_where_it_was(tuning, forked):
    """SIGKILL in the middle of a trial, and a last line that was cut: to the same end as if nothing had happened."""
    change(tuning, trials=8)
    tuning.params["experiments"]["base"]["epochs"] = 40
    tuning.write_params()
    process = forked.Process(target=forks.run, args=(tuning.folder, dict(os.environ), "tune"))
    process.start()
    deadline = time.monotonic() + 600  # cores may be busy
    noted = journal(tuning)
    while process.is_alive() and time.monotonic() < deadline:
        if noted.exists() and noted.read_text().count("\n") > 3:
            break
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    kept = noted.read_text().count("\n") - 1
    assert 3 <= kept < 8
    assert not noted.with_name("tune.json").exists()
    with noted.open("a") as file:
        file.write('{"number": 99, "sta')
    assert f"; {kept} are there" in tuning.succeeds("tune")
    cut = bare(tuning)
    noted.unlink()
    noted.with_name("tune.json").unlink()
    assert "are there" not in tuning.succeeds("tune")
    assert bare(tuning) == cut


def test_new_labels_begin_a_search_anew(tuning):
    """Its trials follow from data, too."""
    tuning.succeeds("tune")
    tuning.add(5)
    tuning.succeeds("corpus")
    tuning.succeeds("extract")
    said = tuning.succeeds("tune")
    assert "it begins anew; the 3 trials so far" in said
    assert "29 utterances" in said


def test_what_the_best_trial_does_not_read_is_to_be_dropped(tuning):
    """At once, or with the search of which other trials read it; params.yaml is then as it must be."""
    base = tuning.params["experiments"]["base"]
    base |= {"pooling": "max", "layers": "all"}
    change(tuning, space={"encoder": ["linear"], "layers": ["last"]})
    said = tuning.succeeds("tune")
    assert "write into experiments.base: {encoder: linear, layers: last}\n" in said
    assert "rates: and drop from experiments.base, where nothing reads it any more: hidden, pooling\n" in said
    base |= {"encoder": "linear", "layers": "last"}
    tuning.write_params()
    assert "hidden is for the encoder mlp or cnn, found encoder linear" in tuning.fails("tune")
    del base["hidden"], base["pooling"]
    tuning.write_params()
    assert "nothing was better than experiments.base as it stands" in tuning.succeeds("tune")


def test_views_and_layers_can_be_searched(tuning):
    """Among utterances that all of the views have, so that trials can be compared."""
    space = {"views": ["a", ["a", "b"]], "fusion": [None, "concat"], "layers": ["last", "all"]}
    change(tuning, space=space, search="grid")
    tuning.succeeds("tune")
    result = found(tuning)
    states = [trial["state"] for trial in result["trials"]]
    assert states == ["complete", "complete", "failed", "failed", "failed", "failed", "complete", "complete"]
    assert "fusion is for two views" in result["trials"][2]["reason"]
    assert result["start"]["params"] == {"views": ["a"], "fusion": None, "layers": "last"}
    change(tuning, space={"layers": ["all", [3]]})
    assert "search rates: view a has no layer '3'" in tuning.fails("tune")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"experiment": "bas"}, "tune.rates: unknown experiment 'bas', did you mean 'base'"),
        ({"space": {"hiden": [[1]]}}, "tune.rates: space.hiden: no field .* did you mean 'hidden'"),
        ({"space": {"head": [0]}}, "tune.rates: space.head: 0 cannot be; head: Input should be greater than 0"),
        ({"space": {"views": ["c"]}}, "tune.rates: unknown view 'c'"),
        ({"experiment": "cells"}, "tune.rates: experiment cells is a grid"),
    ],
)
def test_a_search_that_cannot_be_is_refused_by_every_command(values, message, tuning):
    """Before anything is trained, in one line."""
    tuning.params["experiments"]["cells"] = tuning.params["experiments"]["base"] | {"grid": {"epochs": [1, 2]}}
    change(tuning, **values)
    line = tuning.fails("tune")
    assert re.search(message, line), line
    assert tuning.fails("corpus") == line


def test_a_search_of_failures_says_why_and_is_not_kept(tuning):
    """The next run tries again: what made them fail may have been mended."""
    change(tuning, space={"learning_rate": [1e30, 1e31]}, search="grid")
    line = tuning.fails("tune")
    assert "search rates: all 2 trials failed, the first of them thus: training diverged" in line
    assert not journal(tuning).exists()
    assert tuning.fails("tune") == line


def test_models_per_task_are_not_pruned_and_a_line_says_so(tuning):
    """Where pruning was not refused anyway."""
    tuning.params["experiments"]["base"]["joint"] = False
    change(tuning, trials=1)
    assert "no one loss tells of a trial; none is pruned" in tuning.succeeds("tune")
    change(tuning, prune=False)
    assert "pruned" not in tuning.succeeds("tune")


def test_two_searches_of_one_name_do_not_run_at_once(tuning):
    """They would mix their trials."""
    with exclusive(tuning.folder / "results" / "tune" / "rates" / "tune"):
        assert "is being written by process" in tuning.fails("tune")


def test_a_split_of_the_corpora_needs_no_warning(tuning):
    """All that is ever trained on it has the one test."""
    split = ["train", "train", "train", "valid", "test", "test"]
    lines = [f"{row},{split[i % 6]}" for i, row in enumerate(tuning.rows)]
    (tuning.recordings / "metadata.csv").write_text("\n".join(["file_name,speaker,pitch,part", *lines]) + "\n")
    tuning.params["experiments"]["base"]["folds"] = {"given": "part"}
    change(tuning, trials=1)
    tuning.succeeds("corpus")
    assert "honest" not in tuning.succeeds("tune")


@pytest.mark.parametrize(
    ("space", "field", "default"),
    [({"encoder": ["mlp", "cnn"]}, "channels", [7]), ({"joint": [False, True]}, "head", 11)],
)
def test_a_changed_default_that_trials_alone_read_begins_a_search_anew(space, field, default, tuning, monkeypatch):
    """The section that it starts from may have no use for it; a default that no trial reads changes nothing."""
    tuning.params["experiments"]["base"]["joint"] = "joint" not in space
    change(tuning, space=space, search="grid", prune=False)
    tuning.succeeds("tune")
    assert tuning.succeeds("tune") == "rates: up to date\n"
    later = {name: (about.annotation, copy(about)) for name, about in Experiment.model_fields.items()}

    def of_a_later_version(name, value):
        later[name][1].default = value
        kind = create_model("Later", __base__=Experiment, **{name: later[name]})
        monkeypatch.setattr("strata.trainers.search.space.Experiment", kind)

    of_a_later_version("embedding", 13)
    assert tuning.succeeds("tune") == "rates: up to date\n"
    of_a_later_version(field, default)
    assert "up to date" not in tuning.succeeds("tune")


def test_a_seed_is_no_part_of_a_grid(tuning):
    """Which draws nothing: with another one it is the search that it was."""
    change(tuning, search="grid", space={"hidden": [[13], [29, 17]]})
    tuning.succeeds("tune")
    change(tuning, seed=5)
    assert tuning.succeeds("tune") == "rates: up to date\n"
