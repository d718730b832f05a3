"""The stage `eliminate`: files, rounds that are gone on with, and when there is nothing to do."""

import json

import numpy as np
import pytest

from strata.pipeline.results.eliminations import (
    EliminationResult,
    RoundResult,
    write_elimination,
    write_narrowed,
)
from strata.pipeline.study.folder import Study
from strata.trainers.spec import Elimination
from strata.trainers.training.together import Together


@pytest.fixture
def extracted(study):
    """Five layers, two folds, two seeds: three eliminations of five rounds, each of two models."""
    study.params["experiments"] = {}
    study.params["eliminate"]["wavlm"] |= {"seeds": [0, 1], "shared": 13, "embedding": 17}
    study.write_params().succeeds("corpus")
    study.succeeds("extract", "wavlm")
    return study


def outcome(study) -> dict:
    return json.loads((study.folder / "results/eliminate/wavlm/elimination.json").read_text())


def test_the_outcome_is_the_promised_file(extracted):
    """Rounds with their spread, the nested test beside, and the layers kept; no notes are left over."""
    assert "keeps layers" in extracted.succeeds("eliminate")
    found = outcome(extracted)
    assert [len(r["layers"]) for r in found["rounds"]] == [5, 4, 3, 2, 1]
    best = found["rounds"][found["best_round"] - 1]
    assert set(best["layers"]) == set(found["support"])
    assert {layer for layer, rank in found["ranking"].items() if rank == 1} == set(found["support"])
    assert best["valid"]["mean"] == max(r["valid"]["mean"] for r in found["rounds"])
    assert all(r.keys() >= {"weights_sd", "valid_sd", "test", "test_sd"} for r in found["rounds"])
    assert len(found["nested"]["test"]["folds"]) == len(found["nested"]["kept"]) == 2
    assert found["nested"]["test"]["mean"] == pytest.approx(np.mean(found["nested"]["test"]["folds"]))
    assert {(path["pooling"], path["fold"]) for path in found["paths"]} == {("weighted", f) for f in (None, 0, 1)}
    assert not (extracted.folder / "results/eliminate/wavlm/rounds.jsonl").exists()
    assert "wavlm: up to date" in extracted.succeeds("eliminate")


def test_a_killed_elimination_goes_on_at_its_round(extracted, monkeypatch):
    """Stopped in the third round, with a torn line: two rounds of three eliminations stay, and the outcome is the
    same."""
    whole = extracted.succeeds("eliminate") and outcome(extracted)
    (extracted.folder / "results/eliminate/wavlm/elimination.json").unlink()
    train, calls = Together.train, []

    def dies(self, runs):
        calls.append(runs)
        if len(calls) == 3:
            raise OSError("the power is gone")
        return train(self, runs)

    monkeypatch.setattr(Together, "train", dies)
    assert "the power is gone" in extracted.fails("eliminate")
    notes = extracted.folder / "results/eliminate/wavlm/rounds.jsonl"
    notes.write_text(notes.read_text() + '{"key": {"pool')
    monkeypatch.setattr(Together, "train", train)
    assert "6 of 15 rounds are there" in extracted.succeeds("eliminate")
    again = outcome(extracted)
    for one in (whole, again):
        one.pop("seconds")
    assert again == whole


def test_notes_of_another_section_are_moved_aside(extracted, monkeypatch):
    """They are no rounds of this elimination, and they are not lost."""
    monkeypatch.setattr(Together, "train", lambda self, runs: (_ for _ in ()).throw(OSError("stop")))
    extracted.fails("eliminate")
    notes = extracted.folder / "results/eliminate/wavlm/rounds.jsonl"
    notes.write_text(notes.read_text() + json.dumps({"key": {}, "found": {}}) + "\n")
    extracted.params["eliminate"]["wavlm"]["epochs"] = 3
    monkeypatch.undo()
    said = extracted.write_params().succeeds("eliminate")
    assert "it begins anew; the 1 rounds so far are in" in said
    assert notes.with_name("rounds.previous.jsonl").exists()


def test_a_view_that_was_narrowed_by_it_is_not_eliminated_again(extracted):
    """`strata layers --write` leaves word of it; another section of the view is another matter."""
    extracted.succeeds("eliminate")
    results = extracted.folder / "results/eliminate/wavlm"
    found = outcome(extracted)  # whichever it was, let it have been the fourth round
    kept = found["rounds"][3]["layers"]
    found |= {"best_round": 4, "support": kept}
    found["ranking"] = {layer: 1 if layer in kept else rank + 5 for layer, rank in found["ranking"].items()}
    (results / "elimination.json").write_text(json.dumps(found))
    extracted.succeeds("layers", str(results), "--no-time", "--write", str(extracted.folder / "params.yaml"))
    assert "has been narrowed to the layers that it kept" in extracted.succeeds("eliminate")
    assert outcome(extracted) == found


@pytest.fixture
def narrowed(study):
    """A study without a store whose view was narrowed to what an elimination kept, by word of its files."""
    section = study.params["eliminate"]["wavlm"] | {"pooling": "mean"}
    study.params |= {"experiments": {}, "eliminate": {"wavlm": section}}
    study.params["views"]["wavlm"]["layers"] = [1, 2]
    study.write_params()
    here = Study(study.folder / "params.yaml")
    section, view = here.params.eliminate["wavlm"], here.params.views["wavlm"]
    folder = here.results("eliminate", "wavlm")
    write_elimination(
        EliminationResult(
            *("wavlm", "wavlm", ("speaker",), "mean", ("0", "1", "2")),
            rounds=(RoundResult(1, ("0", "1", "2"), {}, {"mean": 0.5}, {}, None, {}, {}, {}),),
            support=("1", "2"),
            best_round=1,
            seconds=1.0,
            sizes={},
            provenance={},
            config=section.model_dump(mode="json"),
            resolved=section.resolved(),
            folder=folder,
        )
    )
    write_narrowed(folder, "wavlm", view.model_dump(mode="json"))
    return study


@pytest.mark.parametrize("kept", ["resolved", "config alone"])
def test_what_a_narrowed_view_came_from_is_compared_as_it_was_recorded(kept, narrowed, monkeypatch):
    """Not with what today's defaults make of it: a default that has changed since makes it another elimination."""
    file = narrowed.folder / "results/eliminate/wavlm/elimination.json"
    if kept == "config alone":  # as earlier versions wrote it
        found = json.loads(file.read_text())
        del found["resolved"]
        file.write_text(json.dumps(found))
    assert "has been narrowed to the layers that it kept" in narrowed.succeeds("eliminate")
    if kept == "config alone":
        found["config"]["epochs"] += 1
        file.write_text(json.dumps(found))
    before = Elimination.resolved
    later = {"importance": "ablation by rounds"} if kept == "resolved" else {}
    monkeypatch.setattr(Elimination, "resolved", lambda section: before(section) | later)
    assert "run `strata corpus` first" in narrowed.fails("eliminate")


def test_poolings_are_crossed(extracted):
    """One elimination each, the file tells the one that was chosen and the paths of both."""
    extracted.params["eliminate"]["wavlm"] |= {"pooling": ["weighted", "mean"], "seeds": [0]}
    said = extracted.write_params().succeeds("eliminate")
    found = outcome(extracted)
    assert f"with pooling {found['pooling']}" in said
    assert {(path["pooling"], path["fold"]) for path in found["paths"]} == {
        (pooling, fold) for pooling in ("weighted", "mean") for fold in (None, 0, 1)
    }


def test_a_store_of_other_layers_than_params_ask_for_is_refused(extracted):
    """Instead of an elimination, or a training, on whatever is there."""
    extracted.params["views"]["wavlm"]["layers"] = [0, 2]
    said = extracted.write_params().fails("eliminate")
    assert "view wavlm: params.yaml asks for the layers 0, 2, the store has 0, 1, 2, 3, 4" in said
