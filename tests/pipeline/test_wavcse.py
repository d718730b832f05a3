"""The recipe of wavCSE, end to end, on less of everything."""

import json
from importlib.resources import files

import pytest

from strata.pipeline.study import yaml12


@pytest.fixture
def wavcse(study):
    """Four synthetic corpora of 24 utterances, two epochs, two seeds, three of the ten poolings."""
    params = yaml12.load(files("recipes").joinpath("wavcse.yaml").read_text())
    del params["corpora"]["prompts"]  # which a machine need not have
    for corpus in params["corpora"].values():
        corpus |= {"speakers": 4, "utterances_per_speaker": 6}
    for section in (*params["experiments"].values(), *params["eliminate"].values(), *params["downstream"].values()):
        if "verify" not in section:
            section |= {"epochs": 2, "seeds": [0, 1]}
    params["downstream"]["verification"]["folds"]["k"] = 2
    params["experiments"]["poolings"]["grid"]["pooling"] = ["weighted", "learned-norm", "self-attention"]
    params["experiments"]["balancing"]["grid"] = {"balancing": ["gradnorm"], "batches": ["balanced"]}
    params["tune"]["batches"]["space"] = {"batch_size": [32, 64]}
    params["tune"]["widths"]["trials"] = 2
    study.params = params
    return study.write_params()


@pytest.mark.slow
def test_the_recipe_runs_end_to_end(wavcse):
    """Every stage does its work and has nothing to do the second time; all twelve tasks have a score or a reason."""
    stages = ("corpus", "extract", "eliminate", "train", "tune", "embed", "downstream")
    said = {stage: wavcse.succeeds(stage) for stage in stages}
    assert "of 25" in said["eliminate"]
    assert "96 embeddings of 2000 numbers" in said["embed"]
    results = wavcse.folder / "results"
    found = {path.parent.name for path in (results / "downstream").glob("*/metrics.json")}
    skipped = {path.parent.name for path in (results / "downstream").glob("*/skipped.json")}
    assert found | skipped == set(wavcse.params["downstream"])
    assert skipped == {"languages", "dialect", "affect", "intents"}
    rounds = json.loads((results / "eliminate/wavlm/elimination.json").read_text())["rounds"]
    assert [len(each["layers"]) for each in rounds] == list(range(25, 0, -1))
    for stage in stages[1:]:
        assert "up to date" in wavcse.succeeds(stage)
    wavcse.succeeds("report")
    page = (wavcse.folder / "report/index.html").read_text()
    assert "Learned-Norm" in page
    tasks = {task for section in wavcse.params["downstream"].values() for task in section.get("tasks", ["sv"])}
    assert len(tasks) == 12
