"""The search for hyperparameters: what it tries, what it sees, and that it can be cut anywhere."""

import dataclasses
import json
import logging

import numpy as np
import pytest

from strata.trainers.evaluation.experiment import run
from strata.trainers.search import tuning
from strata.trainers.search.space import Space
from strata.trainers.search.tuning import NothingFound, Trial, prunes, search
from strata.trainers.spec import Experiment, Folds, Tune
from strata.trainers.training import jobs

RATES = {"low": 1e-5, "high": 1e-1, "log": True}
WIDE = {"learning_rate": RATES, "batch_size": [16, 64], "hidden": [[13], [29, 17]], "head": {"low": 3, "high": 31}}


def space(fields=WIDE, how=None, **base) -> Space:
    """A search over a small experiment of two folds."""
    given = {"views": ["a"], "tasks": ["speaker"], "encoder": "mlp", "hidden": [13], "epochs": 4, "final": False}
    experiment = Experiment.model_validate(given | {"folds": {"k": 2, "validation": 0.25}} | base)
    return Space(Tune.model_validate({"experiment": "e", "space": fields, "trials": 3} | (how or {})), experiment)


def bare(trials) -> list[dict]:
    """Trials without what no two runs share."""
    return [vars(trial) | {"seconds": 0} for trial in trials]


@pytest.fixture
def eager(monkeypatch):
    """Pruning from the third trial on."""
    monkeypatch.setattr(tuning, "STARTUP", 2)


def test_good_values_are_found(data, tasks):
    """Among learning rates of which most teach nothing, one that does; its test is that of `strata train`'s fold."""
    here = space({"learning_rate": RATES}, {"trials": 12}, learning_rate=1e-5, epochs=8, tasks=["speaker", "age"])
    found = search(here, tasks, lambda experiment: data)
    assert found.start.params == {"learning_rate": 1e-5} == found.trials[0].params
    assert found.best.value > found.start.value + 0.3
    assert found.best.value == max(trial.value for trial in found.trials if trial.state == "complete")
    assert found.best.value == pytest.approx(np.mean(list(found.best.tasks.values())))
    whole = run(here.experiment(found.best.params), tasks, data).metrics["tasks"]
    expected = {"speaker": whole["speaker"]["accuracy"]["folds"][0], "age": whole["age"]["ccc"]["folds"][0]}
    assert found.test == pytest.approx(expected, abs=1e-6)  # CCC of float32 here, of a table's float64 there
    assert found.test_mean == pytest.approx(np.mean(list(found.test.values())))
    assert found.importance == {"learning_rate": 1.0}


def test_a_trial_is_scored_on_its_validation_part(data, tasks):
    """By the model of its best validation epoch: the same as an experiment whose tested utterances are those."""
    here = space({"batch_size": [16]}, {"trials": 1}, tasks=["speaker"], epochs=6)
    found = search(here, tasks, lambda experiment: data)
    fold = tuning.plan(here.base, tasks, data).folds[0]
    split = np.full(len(data), "train", object)
    split[fold.valid] = "valid"
    split[fold.test] = "test"
    # Tested are copies of those validated, under other names.
    rows = np.concatenate([fold.train, fold.valid, fold.valid])
    names = [f"c/{i}" for i in range(len(rows))]
    labels = data.labels.iloc[rows].reset_index(drop=True)
    labels["split"] = [*split[fold.train], *split[fold.valid], *["test"] * len(fold.valid)]
    copied = dataclasses.replace(
        data, utterances=names, contents=names, labels=labels, features={"a": data.features["a"][rows]}
    )
    given = here.base.model_copy(update={"folds": Folds(given="split"), "batch_size": 16})
    expected = run(given, tasks, copied).metrics["tasks"]["speaker"]["accuracy"]["mean"]
    assert found.trials[0].value == expected


@pytest.mark.parametrize("kind", ["bayesian", "random", "grid"])
def test_a_search_cut_anywhere_ends_as_if_it_had_not_been(kind, data, tasks, eager):
    """After any trial, pruned and failed ones among them, told what was written down of those before."""
    fields = WIDE | {"learning_rate": RATES | {"high": 1e38}}
    if kind == "grid":
        fields = {"learning_rate": [1e-3, 1e-5, 1e-2, 1e30, 1e-4], "batch_size": [16, 64, 7]}
    here = space(fields, {"search": kind, "trials": 15}, patience=2)
    written = []
    whole = search(here, tasks, lambda e: data, note=lambda trial: written.append(json.dumps(vars(trial))))
    assert {trial.state for trial in whole.trials} == {"complete", "pruned", "failed"}
    assert [trial.number for trial in whole.trials] == list(range(15))
    for cut in (1, 3, 11, 14, 15):
        done, new = [Trial(**json.loads(line)) for line in written[:cut]], []
        again = search(here, tasks, lambda e: data, done, new.append)
        assert [trial.number for trial in new] == list(range(cut, 15))
        assert bare(again.trials) == bare(whole.trials)
        assert (again.test, again.importance) == (whole.test, whole.importance)


def test_more_trials_extend_a_search(data, tasks):
    """The first ones are the same however many follow; and of more that are there, only those asked for count."""
    few, many = (search(space(how={"trials": trials}), tasks, lambda e: data) for trials in (3, 5))
    assert bare(many.trials[:3]) == bare(few.trials)
    fewer = search(space(how={"trials": 3}), tasks, lambda e: data, many.trials)
    assert bare(fewer.trials) == bare(few.trials)


def test_what_was_seen_guides_a_bayesian_search_alone(data, tasks):
    """Beyond its first trials it is not chance; the same seed gives the same search, a neighbour's shares no point."""
    rates = {}
    for kind, seed in [("bayesian", 0), ("random", 0), ("random", 1)]:
        here = space({"learning_rate": RATES}, {"search": kind, "trials": 12, "seed": seed, "prune": False}, epochs=1)
        rates[kind, seed] = [t.params["learning_rate"] for t in search(here, tasks, lambda e: data).trials]
    assert rates["bayesian", 0][:9] == rates["random", 0][:9]
    assert rates["bayesian", 0][11] != rates["random", 0][11]
    assert set(rates["random", 0]) & set(rates["random", 1]) == {1e-3}  # the section as it stands


def test_test_data_has_no_say(data, tasks):
    """Other features and labels of the tested: another test score, the same everything else."""
    split = np.where(np.arange(len(data)) % 4 == 0, "test", "train")
    given = {"folds": Folds(given="split", validation=0.25), "tasks": ["speaker", "age"]}
    here = space(how={"trials": 6}, **given)
    data = dataclasses.replace(data, labels=data.labels.assign(split=split))
    before = search(here, tasks, lambda e: data)
    features = data.features["a"].copy()
    features[split == "test"] = 7
    labels = data.labels.assign(age=data.labels["age"].where(split != "test", data.labels["age"] * 2))
    changed = dataclasses.replace(data, labels=labels, features={"a": features})
    after = search(here, tasks, lambda e: changed)
    assert bare(before.trials) == bare(after.trials)
    assert before.best.number == after.best.number
    assert before.importance == after.importance
    assert before.test["speaker"] != after.test["speaker"]
    assert before.test["age"] != after.test["age"]


def test_the_tested_are_asked_once(data, tasks, monkeypatch):
    """At the end, of the best; no trial's model is even shown them."""
    asked = []
    monkeypatch.setattr(tuning, "train", lambda job, watch: asked.append(job) or jobs.train(job, watch))
    monkeypatch.setattr(
        tuning, "train_all", lambda given, workers: enumerate(asked.append(job) or jobs.train(job) for job in given)
    )
    here = space(how={"trials": 4})
    found = search(here, tasks, lambda e: data)
    fold = tuning.plan(here.base, tasks, data).folds[0]
    assert len(asked) == 5
    for job in asked[:4]:
        assert job.test is job.valid
        assert not set(fold.test) & {*job.train, *job.valid}
    assert set(asked[4].test) == set(fold.test)
    assert asked[4].experiment == here.experiment(found.best.params)


def test_bad_trials_end_early_where_asked(data, tasks, eager):
    """Of a grid of good and hopeless rates the hopeless end once patience would, with the reason."""
    fields = {"learning_rate": [1e-2, 2e-2, 1e-6, 2e-6]}
    found = search(space(fields, {"search": "grid"}, epochs=9, patience=3), tasks, lambda e: data)
    assert [trial.state for trial in found.trials] == ["complete", "complete", "pruned", "pruned"]
    assert [trial.epochs for trial in found.trials[2:]] == [3, 3]
    assert [trial.value for trial in found.trials[2:]] == [None, None]
    assert "after 3 epochs: worse than that of most others" in found.trials[2].reason
    assert len(found.trials[0].losses) == found.trials[0].epochs
    whole = search(space(fields, {"search": "grid", "prune": False}, epochs=9, patience=3), tasks, lambda e: data)
    assert {trial.state for trial in whole.trials} == {"complete"}
    assert whole.trials[2].epochs == 9


def test_a_trial_that_diverges_is_passed_over(data, tasks):
    """It has failed, with its reason; the search goes on."""
    fields = {"learning_rate": [1e30, 1e-2]}
    found = search(space(fields, {"search": "grid"}), tasks, lambda e: data)
    assert [trial.state for trial in found.trials] == ["failed", "complete"]
    assert "diverged" in found.trials[0].reason
    assert found.best.number == 1


def test_values_that_do_not_go_together_are_passed_over(data, tasks):
    """As where one view is given a fusion."""
    fields = {"views": ["a", ["a", "b"]], "fusion": [None, "concat"]}
    found = search(space(fields, {"search": "grid"}), tasks, lambda e: data)
    assert [trial.state for trial in found.trials] == ["complete", "failed", "failed", "complete"]
    assert "fusion is for two views" in found.trials[1].reason


def test_a_search_of_failures_is_one_error(data, tasks):
    """It says how many, and why the first failed."""
    with pytest.raises(NothingFound, match="all 2 trials failed, the first of them thus: training diverged"):
        search(space({"learning_rate": [1e30, 1e31]}, {"search": "grid"}), tasks, lambda e: data)


def test_features_that_cannot_be_read_end_the_search(data, tasks):
    """They are no fault of the values: nothing is noted."""
    calls, notes = [], []

    def dataset(experiment):
        calls.append(experiment)
        if len(calls) == 3:
            raise OSError("the disk is gone")
        return data

    with pytest.raises(OSError, match="the disk is gone"):
        search(space(), tasks, dataset, note=notes.append)
    assert len(notes) == 1


def test_seeds_are_averaged(data, tasks):
    """Score and test of a trial are means over the models of all seeds, only the first of which is watched."""
    fields, how = {"batch_size": [16]}, {"trials": 1}
    found = [search(space(fields, how, seeds=s), tasks, lambda e: data) for s in ([0], [5], [0, 5])]
    first, second, both = (each.trials[0] for each in found)
    assert first.value != second.value
    assert both.value == pytest.approx((first.value + second.value) / 2)
    assert both.losses == first.losses
    assert found[2].test_mean == pytest.approx((found[0].test_mean + found[1].test_mean) / 2)


def test_models_per_task_are_scored_together_and_not_pruned(data, tasks, eager):
    """No one loss tells of such a trial; its scores are those of the models of each task alone."""
    fields, names = {"learning_rate": [1e-2, 2e-2, 1e-6, 2e-6]}, ["speaker", "age"]
    here = space(fields, {"search": "grid"}, joint=False, tasks=names, patience=2)
    found = search(here, tasks, lambda e: data)
    assert not prunes(here)
    assert not prunes(space({"joint": [True, False]}))
    assert prunes(space(fields, joint=False))  # of a single task
    assert {trial.state for trial in found.trials} == {"complete"}
    for name in names:
        alone = search(space({"learning_rate": [1e-2]}, tasks=[name]), tasks, lambda e: data)
        assert alone.trials[0].value == found.trials[0].tasks[name]


def test_the_same_values_are_trained_once(data, tasks, monkeypatch):
    """A search through few combinations comes back to some, and knows their scores."""
    trained = []
    monkeypatch.setattr(tuning, "train", lambda job, watch: trained.append(job) or jobs.train(job, watch))
    found = search(space({"batch_size": [16, 64]}, {"trials": 7, "search": "random"}), tasks, lambda e: data)
    assert len(trained) == 2
    assert len({trial.value for trial in found.trials}) == len({t.params["batch_size"] for t in found.trials}) == 2
    assert [trial.reason for trial in found.trials].count(None) == 2
    assert found.best.reason is None


def test_whole_numbers_and_steps_are_kept(data, tasks):
    """A field of whole numbers gets such, and an interval with a step its multiples, the end only if it is one."""
    fields = {"head": {"low": 4, "high": 30, "step": 8}, "l2": {"low": 0, "high": 0.25, "step": 0.1}}
    here = space(fields, {"trials": 20, "search": "random", "prune": False}, tasks=["speaker", "age"], epochs=1)
    found = search(here, tasks, lambda e: data).trials
    assert {trial.params["head"] for trial in found} == {4, 12, 20, 28}
    assert all(type(trial.params["head"]) is int for trial in found)
    assert {round(trial.params["l2"], 9) for trial in found} == {0.0, 0.1, 0.2}


def test_a_unified_embedding_is_tuned_like_any_head(data, tasks):
    """wavCSE's model over several layers, widths among what is searched."""
    layers = np.concatenate([data.features["a"]] * 3, axis=1)
    fields = {"shared": {"low": 8, "high": 40, "step": 8}, "learning_rate": RATES, "pooling": ["mean", "weighted"]}
    here = space(fields, encoder="unified", embedding=31, layers="all", tasks=["speaker", "emotion"])
    found = search(here, tasks, lambda e: dataclasses.replace(data, features={"a": layers}))
    assert found.start is None  # 512 is beyond the interval
    assert all(trial.params["shared"] % 8 == 0 for trial in found.trials)
    assert found.test.keys() == {"speaker", "emotion"}


def test_a_part_without_labels_is_refused(data, tasks):
    """Instead of an average over nothing."""
    labels = data.labels.assign(emotion=[None if i > 1 else "ab"[i] for i in range(len(data))])
    with pytest.raises(ValueError, match=r"task emotion: .*label"):
        search(space(tasks=["emotion"]), tasks, lambda e: dataclasses.replace(data, labels=labels))


def test_optuna_is_silent(data, tasks, capfd, caplog):
    """Its own talk is nobody's."""
    with caplog.at_level(logging.INFO):
        search(space({"learning_rate": [1e30, 1e-2]}, {"search": "grid"}), tasks, lambda e: data)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("optuna")]
