"""Labels keep every digit, from the table to the prediction; what is no number is named."""

import json

import numpy as np
import pandas as pd
import pytest

from strata.trainers.evaluation.experiment import run
from strata.trainers.evaluation.predictor import Predictor
from strata.trainers.inputs.data import Dataset, TrainingError, targets_of
from strata.trainers.spec import Experiment, Folds, Task
from strata.trainers.tasks import KINDS
from strata.trainers.tasks.classification import class_name

REGRESSION, CLASSES = Task(kind="regression"), Task(kind="classification")
BIG = 12345678901234560


def test_a_time_in_seconds_is_learned_scored_and_kept(tmp_path):
    """1.7e9 + i: distinct labels, an error of less than a second, and a saved model and a table that say the same."""
    time = 1.7e9 + np.arange(60.0)
    names = [str(i) for i in range(60)]
    x = (time - 1.7e9)[:, None, None].repeat(2, 2).astype(np.float32)
    data = Dataset(names, names, pd.DataFrame({"time": time}), {"v": x})
    how = Experiment(
        views=["v"], tasks=["time"], encoder="linear", epochs=120, learning_rate=0.05, patience=120, folds=Folds(k=2)
    )
    found = run(how, {"time": REGRESSION}, data)
    assert found.metrics["tasks"]["time"]["rmse"]["mean"] < 3
    assert found.metrics["tasks"]["time"]["r2"]["mean"] > 0.95
    assert found.metrics["tasks"]["time"]["ccc"]["mean"] > 0.95
    found.predictions.to_parquet(tmp_path / "p.parquet")
    table = pd.read_parquet(tmp_path / "p.parquet").set_index("utterance").loc[names]
    np.testing.assert_array_equal(table["time.true"], time)
    assert table["time.predicted"].nunique() == 60
    found.predictor.save(tmp_path, {})
    loaded, _ = Predictor.load(tmp_path)
    answers, _ = loaded({"v": x})["time"]
    np.testing.assert_array_equal(answers, found.predictor({"v": x})["time"][0])
    assert np.abs(answers - time).max() < 10
    assert len(np.unique(answers)) == 60


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e200, "inf", "1e999"])
def test_a_label_that_is_not_finite_is_refused_by_name(value):
    """Before any training, with the label, the value and how many there are."""
    labels = pd.DataFrame({"age": [20.0, 30.0, value, None]}, dtype=object)
    with pytest.raises(TrainingError, match=r"task years: label 'age' must be a finite number.*found -?\S+ \(1 of 3"):
        targets_of("years", Task(kind="regression", label="age"), labels)


@pytest.mark.parametrize("kind", ["int64", "Int64", "object"])
@pytest.mark.parametrize("corpora", [[], ["c"]])
def test_whole_numbers_beyond_2_to_53_stay_apart(kind, corpora):
    """As classes, also where only some corpora's labels count: half of the rows are then left out."""
    labels = pd.DataFrame({"id": pd.Series([BIG + i % 5 for i in range(20)], dtype=kind)})
    where = ["c" if i % 2 or i < 10 else "d" for i in range(20)]
    found = targets_of("id", Task(kind="classification", corpora=corpora), labels, where)
    assert found.classes == tuple(str(BIG + i) for i in range(5))


def test_nullable_numbers_are_read_as_numbers():
    """pandas has a missing whole number of its own."""
    found = targets_of("n", REGRESSION, pd.DataFrame({"n": pd.Series([3, None, 5], dtype="Int64")}))
    np.testing.assert_array_equal(found.values, [3.0, np.nan, 5.0])


@pytest.mark.parametrize(
    ("value", "name"),
    [(np.float32(3.0), "3"), (3.0, "3"), (3, "3"), (np.int64(BIG + 1), str(BIG + 1)), (0.1, "0.1"), (True, "True")],
)
def test_a_number_has_one_name(value, name):
    """Whatever its type."""
    assert class_name(value) == name


@pytest.mark.parametrize("shift", [0.0, 1.7e9, -1e12])
def test_metrics_do_not_depend_on_where_labels_lie(shift):
    """Errors, R² and concordance of values far from 0 are those of the same values near it."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 50, 97).astype(np.float64)
    predicted = true + rng.integers(-5, 6, 97)
    wanted = KINDS["regression"].scores(true, predicted)
    for name, value in KINDS["regression"].scores(true + shift, predicted + shift).items():
        assert value == pytest.approx(wanted[name], rel=1e-9), name
    assert KINDS["regression"].chance(true + shift, true + shift, "rmse") == pytest.approx(true.std(), rel=1e-6)


def test_predict_tells_all_digits():
    """In JSON the answer is the value itself."""
    from strata.pipeline.commands.predictions import single

    target = targets_of("t", REGRESSION, pd.DataFrame({"t": [1.7e9, 1.7e9 + 1]}))
    told = [single(target, np.array([1.7e9 + i / 2]), None, 0).as_json()["answer"] for i in range(3)]
    assert json.loads(json.dumps(told)) == [1.7e9, 1.7e9 + 0.5, 1.7e9 + 1]
