"""What cannot be trained is one line, and costs its own experiment alone."""

import dataclasses
import os
import re
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest

from strata.trainers.evaluation.experiment import plan, run, run_all
from strata.trainers.inputs.data import TrainingError
from strata.trainers.spec import Folds, Task
from strata.trainers.training import jobs
from strata.trainers.training.workers import Processes
from tests.trainers.experiments import experiment


@pytest.mark.parametrize(
    ("how", "labels", "message"),
    [
        ({"tasks": ["mood"]}, {}, "no label 'mood'"),
        ({"tasks": ["speaker"]}, {"speaker": "one"}, "needs two classes or more, found 1: one"),
        ({"tasks": ["gender"]}, {"sex": list("abc") * 37 + ["a", "b"]}, "exactly two classes, found 3"),
        ({"tasks": ["age"]}, {"age": 30.0}, "fewer than two distinct values"),
        ({"tasks": ["age"]}, {"age": "old"}, "must be a number, found 'old'"),
        (
            {"folds": Folds(disjoint="speaker")},
            {},
            "task speaker cannot be tested on folds that are disjoint by speaker",
        ),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_line(how, labels, message, data, tasks):
    """Before any training."""
    tasks = tasks | {"mood": Task(kind="classification")}
    data = dataclasses.replace(data, labels=data.labels.assign(**labels))
    with pytest.raises(TrainingError, match=message):
        run(experiment(**how), tasks, data)


def test_divergence_is_said_and_not_scored(data, tasks):
    """A learning rate beyond reason ends in one line, not in NaN."""
    with pytest.raises(TrainingError, match=r"diverged.*lower learning_rate"):
        run(experiment(tasks=["age"], learning_rate=1e30, epochs=3), tasks, data)


def test_one_experiment_that_cannot_be_trained_leaves_the_others(data, tasks):
    """In the order of the plans: an outcome, or what went wrong; divergence is an error of its own experiment."""
    good = experiment(epochs=1, folds=Folds(k=2), final=False)
    bad = good.model_copy(update={"folds": Folds(k=2, disjoint="speaker")})
    wild = good.model_copy(update={"learning_rate": 1e30, "epochs": 2})
    plans = [lambda how=how: plan(how, tasks, data) for how in (bad, good, wild, bad, good, bad)]
    found = list(run_all(plans, workers=Processes(2, worth_s=0.0)))
    assert [type(each).__name__ for each in found] == [
        *("TrainingError", "Evaluation", "TrainingError", "TrainingError", "Evaluation", "TrainingError")
    ]
    assert "diverged" in str(found[2])
    assert found[1].predictor is None
    pd.testing.assert_frame_equal(found[1].predictions, found[4].predictions)


def test_trouble_of_any_kind_is_one_experiments_own(data, tasks):
    """Not enough memory, or what nobody thought of: the others are trained."""
    good = plan(experiment(epochs=1, folds=Folds(k=2), final=False), tasks, data)
    broken = dataclasses.replace(good, jobs=[dataclasses.replace(job, features=[]) for job in good.jobs])

    def too_large():
        raise MemoryError

    found = list(run_all([too_large, lambda: broken, lambda: good]))
    assert "do not fit into memory" in str(found[0])
    assert isinstance(found[1], TrainingError)
    assert found[2].metrics["num_folds"] == 2


class _Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (3,)


def test_a_worker_that_is_ended_is_one_line(data, tasks):
    """Whoever runs out of memory is told so, and what to do; the experiments before and after it are trained."""
    good, made = (plan(experiment(epochs=1, folds=Folds(k=2), final=False), tasks, data) for _ in range(2))
    object.__setattr__(made.jobs[1], "seed", _Deadly())
    before, killed, after = run_all([lambda: good, lambda: made, lambda: good], workers=Processes(2, worth_s=0.0))
    assert isinstance(killed, TrainingError)
    assert re.search(r"worker process was ended from outside.* lower train\.workers", str(killed))
    pd.testing.assert_frame_equal(before.predictions, after.predictions)


class _Unsendable:
    """Cannot be handed to another process."""

    def __reduce__(self):
        raise OSError(28, "No space left on device")


@pytest.mark.slow
def test_what_cannot_be_handed_over_costs_its_own_experiment(data, tasks):
    """Told as what it is, in the place of the outcome; the others are trained."""
    good, made = (plan(experiment(epochs=1, folds=Folds(k=2), final=False), tasks, data) for _ in range(2))
    object.__setattr__(made.jobs[0], "seed", _Unsendable())
    before, refused, after = run_all([lambda: good, lambda: made, lambda: good], workers=Processes(2, worth_s=0.0))
    assert isinstance(refused, TrainingError)
    assert "PicklingError" in str(refused)
    pd.testing.assert_frame_equal(before.predictions, after.predictions)


@pytest.mark.parametrize("error", [KeyError("emotion"), ZeroDivisionError("x"), RuntimeError("y"), MemoryError()])
def test_whatever_a_plan_or_a_score_raises_is_one_experiments_own(error, data, tasks, monkeypatch):
    """Also what nobody thought of, before the training and after it."""
    good = experiment(epochs=1, folds=Folds(k=2), final=False, tasks=["speaker"])

    def fails():
        raise error

    bad = plan(good, tasks, data)
    object.__setattr__(bad, "targets", None)  # which is found out when the answers are put together
    first, second, third = run_all([fails, lambda: bad, lambda: plan(good, tasks, data)])
    assert isinstance(first, TrainingError)
    assert isinstance(second, TrainingError)
    assert "TypeError" in str(second)
    assert third.metrics["num_folds"] == 2


def test_a_prediction_that_is_not_finite_costs_its_own_experiment(data, tasks, monkeypatch):
    """Told by the task and the number of utterances; there is no score of them."""
    how = experiment(epochs=1, folds=Folds(k=2), final=False, tasks=["age", "speaker"])
    made = plan(how, tasks, data)
    real = jobs.outputs

    def outputs(model, features, rows):
        found = real(model, features, rows)
        found["age"][:3] = np.inf
        return found

    monkeypatch.setattr(jobs, "outputs", outputs)
    (found,) = run_all([lambda: made])
    assert "task age: the outputs for 3 of " in str(found)
    assert "are not finite" in str(found)


def test_an_empty_part_is_one_line(data, tasks, monkeypatch):
    """Of a fold that tests, validates or trains on nobody; the others are trained."""
    from strata.trainers.folds import shared as module

    how = experiment(epochs=1, folds=Folds(k=2), final=False, tasks=["speaker"])
    real = module.cross_validation
    nobody = np.empty(0, np.int64)
    for part in ("train", "valid", "test"):

        def emptied(*arguments, part=part):
            first, *others = real(*arguments)
            return [dataclasses.replace(first, **{part: nobody}), *others]

        monkeypatch.setattr(module, "cross_validation", emptied)
        monkeypatch.setattr(module, "_kept", OrderedDict())
        (found,) = run_all([lambda: plan(how, tasks, data)])
        assert f"fold 0 of 2 has no utterances in its {part} part" in str(found)


def test_an_empty_part_of_a_given_split_is_told_with_a_cure_that_helps(data, tasks):
    """There is no number of folds to lower: one recording that trains cannot be divided, so that none validates."""
    split = np.array(["train"] + ["test"] * (len(data) - 1))
    here = dataclasses.replace(data, labels=data.labels.assign(split=split))
    with pytest.raises(TrainingError, match="no utterances in its valid part; name one for it in the corpus's own"):
        plan(experiment(folds=Folds(given="split"), final=False, tasks=["speaker"]), tasks, here)


def test_a_model_that_nothing_stops_is_refused(data, tasks):
    """Without a labelled validation utterance its first epoch would be its best."""
    split = np.array([("train", "valid", "test")[i % 3] for i in range(len(data))])
    labels = data.labels.assign(split=split, emotion=data.labels["emotion"].where(split != "valid"))
    here = dataclasses.replace(data, labels=labels)
    how = experiment(tasks=["emotion", "speaker"], folds=Folds(given="split"), epochs=1)
    with pytest.raises(TrainingError, match="task emotion: no validation utterance is labelled"):
        run(how.model_copy(update={"joint": False}), tasks, here)
    run(how, tasks, here)  # together, the other task says when to stop
