"""What counts as constant, and what one value beyond reason can do."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from strata.trainers.evaluation.backend import Backend, Vectors
from strata.trainers.evaluation.experiment import run
from strata.trainers.evaluation.predictor import Predictor
from strata.trainers.evaluation.verification import verify
from strata.trainers.inputs.data import Dataset, Targets, targets_of
from strata.trainers.inputs.pooled import as_pooled
from strata.trainers.inputs.standardise import Standardise
from strata.trainers.scale import CLIP, is_constant
from strata.trainers.spec import Elimination, Experiment, Folds, Task, Verification

AGE = {"age": Task(kind="regression")}


def fitted(column: np.ndarray) -> Standardise:
    """Of a view of one layer and one dimension."""
    found = Standardise(1, 1)
    found.fit(column.reshape(-1, 1, 1).astype(np.float32), np.arange(len(column)))
    return found


def standardised(module: Standardise, *values: float) -> list[float]:
    return module(torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)).flatten().tolist()


@pytest.mark.parametrize("level", [16.6667, -3e4, 1e-9, 1e-30, 7e20])
def test_rounding_around_any_level_is_no_information(level):
    """A column within a few units in the last place of its mean is 0 whatever comes later."""
    rng = np.random.default_rng(0)
    column = np.float32(level) * (1 + np.finfo(np.float32).eps * rng.integers(-2, 3, 97)).astype(np.float32)
    assert np.unique(column).size > 1
    assert standardised(fitted(column), level, 0.0, 200 * level) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("level", "spread"), [(0, 1e-9), (1e-9, 1e-9), (1e-9, 1e-13), (0, 1e-30), (1e6, 1), (5, 1e20)])
def test_a_spread_is_one_at_any_scale(level, spread):
    """Whatever the unit of the values, they come out with mean 0 and deviation 1."""
    column = (level + spread * np.random.default_rng(0).normal(size=97)).astype(np.float32)
    found = fitted(column)(torch.from_numpy(column).reshape(-1, 1, 1))
    assert found.mean().item() == pytest.approx(0.0, abs=0.05)
    assert found.std().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("value", [2.9e9, 3e38, -3e38])
def test_no_value_lies_further_out_than_the_limit(value):
    """Also where its distance from the mean is more than float32 can say."""
    column = np.random.default_rng(0).normal(size=97)
    assert standardised(fitted(column), value) == [np.sign(value) * CLIP]
    assert standardised(fitted(np.append(column, -3e38)), 3e38) == [pytest.approx(10.05, abs=0.1)]


def test_a_click_costs_its_own_recording_and_not_the_score():
    """A ComParE column at 16.6667 ± 8e-7, and a tested recording in which it is something else."""
    rng = np.random.default_rng(0)
    age = rng.normal(40, 12, 60)
    x = np.column_stack([age + rng.normal(size=60), np.full(60, 16.6667) + 8e-7 * rng.normal(size=60)])
    x[7, 1] = 2320.0
    names = [str(i) for i in range(60)]
    data = Dataset(names, names, pd.DataFrame({"age": age}), {"v": x[:, None].astype(np.float32)})
    how = Experiment(views=["v"], tasks=["age"], encoder="linear", epochs=60, learning_rate=0.05, folds=Folds(k=3))
    found = run(how, AGE, data).metrics
    assert found["tasks"]["age"]["rmse"]["mean"] < found["chance"]["age"]["rmse"]


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e12])
def test_scores_follow_the_unit_of_features_and_labels(unit):
    """Age in another unit, from features in another unit: the same RMSE in that unit, far below chance."""
    rng = np.random.default_rng(1)
    age = rng.normal(2, 1, 60)
    x = np.stack([age + 0.1 * rng.normal(size=60), rng.normal(size=60)], 1)[:, None]
    names = [str(i) for i in range(60)]
    how = Experiment(
        views=["v"], tasks=["age"], encoder="linear", epochs=40, learning_rate=0.05, folds=Folds(k=2), final=False
    )

    def rmse(scale: float) -> tuple[float, float]:
        data = Dataset(names, names, pd.DataFrame({"age": scale * age}), {"v": (scale * x).astype(np.float32)})
        metrics = run(how, AGE, data).metrics
        return metrics["tasks"]["age"]["rmse"]["mean"] / scale, metrics["chance"]["age"]["rmse"] / scale

    found, chance = rmse(unit)
    assert found < 0.5 * chance
    assert found == pytest.approx(rmse(1.0)[0], rel=0.02)


def test_training_prediction_and_the_saved_model_have_one_limit(data, tasks, tmp_path):
    """A value a little or far beyond it is answered alike, by the model at hand and by the one from disk."""
    how = Experiment(views=["a"], tasks=["speaker", "age"], encoder="mlp", epochs=2, folds=Folds(k=2))
    predictor = run(how, tasks, data).predictor
    predictor.save(tmp_path, {})
    loaded, _ = Predictor.load(tmp_path)
    wild = data.features["a"][:3].copy()
    wild[0, 0, 5], wild[1, 0, 5], wild[2] = 1e9, 3e38, -3e38
    for task, (answers, shares) in predictor({"a": wild}).items():
        again, shares_again = loaded({"a": wild})[task]
        np.testing.assert_array_equal(again, answers)
        if shares is None:
            assert np.isfinite(answers.astype(float)).all()
        else:
            assert np.isfinite(shares).all()
            np.testing.assert_array_equal(shares[0], shares_again[0])
    first = predictor({"a": wild[:1]}), predictor({"a": np.where(wild[:1] == 1e9, 1e7, wild[:1]).astype(np.float32)})
    np.testing.assert_array_equal(first[0]["age"][0], first[1]["age"][0])


def test_an_elimination_stands_what_an_experiment_stands(data, tasks):
    """Models trained together have the same limit and the same constants: a click in a test row moves no score."""
    from strata.trainers.search.rounds import eliminate

    how = Elimination(view="v", tasks=["age"], shared=13, embedding=17, epochs=3, folds=Folds(k=2, validation=0.25))
    layers = np.repeat(data.features["a"], 2, axis=1)
    layers[:, :, 3] = 16.6667
    layers[5, :, 3], layers[6, 0, 4] = 2.9e9, 3e38
    found = eliminate(how, tasks, dataclasses.replace(data, features={"v": layers}), ["0", "1"])
    for each in found.nested["weighted"]:
        assert all(np.isfinite([*r.valid.values(), *r.test.values()]).all() for r in each.rounds_)


def test_labels_that_differ_are_not_constant_and_a_constant_part_has_a_scale():
    """Labels are judged as float64: seconds since 1970 differ; a training part of one value is only centred."""
    target = targets_of("t", Task(kind="regression"), pd.DataFrame({"t": 1.7e9 + np.arange(50.0)}))
    values, mean, scale = target.scaled(np.arange(50))
    assert (mean, scale) == (1.7e9 + 24.5, pytest.approx(np.arange(50).std()))
    np.testing.assert_allclose(values, (np.arange(50) - 24.5) / np.arange(50).std(), rtol=1e-6)
    tiny = Targets("t", Task(kind="regression"), 1e-9 * np.arange(9.0), ()).scaled(np.arange(9))
    assert tiny[0].std() == pytest.approx(1.0)
    same = Targets("t", Task(kind="regression"), np.array([0.1 + 0.2, 0.3, 0.3, 1e100]), ()).scaled(np.arange(3))
    assert same[1:] == (pytest.approx(0.3), 1.0)
    assert np.isfinite(same[0]).all()


def test_verification_stands_clicks_and_constants():
    """A column of rounding is one of a single value; a recording in which it is 1e30 is scored as if it were not."""
    rng = np.random.default_rng(2)
    speakers = np.repeat(np.arange(12), 5)
    x = (2 * rng.normal(size=(12, 7))[speakers] + rng.normal(size=(60, 7))).astype(np.float32)
    noisy = np.column_stack([x, 16.6667 + 8e-7 * rng.normal(size=60)]).astype(np.float32)
    flat = np.column_stack([x, np.full(60, 16.6667)]).astype(np.float32)

    def all_of(x: np.ndarray) -> Vectors:
        return Vectors(as_pooled(x[:, None]), np.arange(60))

    plain, other = Backend.fit(all_of(flat), speakers, 5), Backend.fit(all_of(noisy), speakers, 5)
    noisy[0, 7] = 1e30
    first, second = np.array([0, 0, 5, 9]), np.array([1, 30, 6, 40])
    expected = plain.scores(all_of(flat), first, second)
    np.testing.assert_allclose(other.scores(all_of(noisy), first, second), expected, atol=1e-4)
    noisy[1, 2] = 3e38
    assert np.isfinite(other.scores(all_of(noisy), first, second)).all()
    names = [str(i) for i in range(60)]
    data = Dataset(names, names, pd.DataFrame({"speaker": [f"s{i}" for i in speakers]}), {"v": noisy[:, None]})
    how = Verification(views=["v"], verify="speaker", folds=Folds(k=3))
    assert verify(how, data, "v").metrics["tasks"]["speaker"]["eer"]["mean"] < 0.3


def test_what_is_constant_is_relative_to_the_magnitude():
    """And to the precision in which the values were given."""
    assert is_constant(16.6667, 8e-7)
    assert not is_constant(16.6667, 8e-7, np.float64)
    assert not is_constant(1e-9, 1e-12)
    assert is_constant(0.0, 0.0)
    assert is_constant(np.array([1e8, 1e-8]), np.array([10.0, 10.0])).tolist() == [True, False]
