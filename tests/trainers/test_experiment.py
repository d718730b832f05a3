"""What an experiment gives: models that learn, answers and scores; from training data alone, the same again."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from strata.trainers.evaluation.experiment import num_models, plan, run
from strata.trainers.evaluation.predictor import Predictor
from strata.trainers.inputs.data import Dataset, Targets
from strata.trainers.inputs.pooled import as_pooled
from strata.trainers.models.heads import Heads
from strata.trainers.spec import Experiment, Folds, Fusion, Task
from strata.trainers.training.jobs import train
from strata.trainers.training.workers import Processes
from tests.sampling import sweep
from tests.trainers.experiments import experiment

CONFIGURATIONS = {
    "SVST": {"views": ["a"], "joint": False},
    "SVMT": {"views": ["a"]},
    "MVMT-concat": {"views": ["a", "b"], "fusion": "concat"},
    "TANGO": {"views": ["a", "b"], "fusion": "ot"},
}


@pytest.mark.parametrize("setup", sweep(CONFIGURATIONS, keep=0, always=["SVST", "TANGO"]))
def test_every_configuration_learns_what_its_views_know(setup, data, tasks):
    """Far above chance where a view holds the label; everything that was promised is there; nothing is NaN."""
    count = []
    how = experiment(**CONFIGURATIONS[setup], learning_rate=3e-3)
    outcome = run(how, tasks, data, lambda: count.append(1))
    assert how.setup == outcome.metrics["setup"] == setup
    assert len(count) == num_models(how)
    known = outcome.metrics["tasks"]
    assert known["speaker"]["accuracy"]["mean"] > 0.6 > 0.35 > outcome.metrics["chance"]["speaker"]["accuracy"]
    assert known["gender"]["accuracy"]["mean"] > 0.7
    assert known["age"]["rmse"]["mean"] < 0.8 * outcome.metrics["chance"]["age"]["rmse"]
    if "b" in how.views:
        assert known["emotion"]["accuracy"]["mean"] > 0.6
    assert sorted(outcome.predictions["utterance"]) == sorted(data.utterances)
    assert all(len(m["folds"]) == 3 and np.isfinite(m["folds"]).all() for task in known.values() for m in task.values())
    probabilities = np.stack(outcome.predictions["speaker.probabilities"])
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert outcome.predictions["emotion.true"].isna().sum() == data.labels["emotion"].isna().sum()


def test_a_task_is_compared_by_the_metric_it_names(data, tasks):
    """And by that of its kind where it names none; chance is told by the same one. Trained for concordance, it is
    reached."""
    tasks = tasks | {
        "age": Task(kind="regression", loss="ccc", metric="ccc"),
        "gender": Task(kind="binary", label="sex", metric="uar"),
    }
    metrics = run(experiment(learning_rate=3e-3), tasks, data).metrics
    assert metrics["primary"] == {"speaker": "accuracy", "emotion": "accuracy", "gender": "uar", "age": "ccc"}
    assert {task: list(found) for task, found in metrics["chance"].items()} == {
        task: [name] for task, name in metrics["primary"].items()
    }
    assert metrics["chance"]["age"]["ccc"] == pytest.approx(0.0)
    assert metrics["chance"]["gender"]["uar"] == pytest.approx(0.5)
    assert metrics["tasks"]["age"]["ccc"]["mean"] > 0.6


def test_the_same_run_gives_the_same_result_to_the_bit(data, tasks):
    """Whatever the number of workers."""
    how = experiment(epochs=3, views=["a", "b"], fusion="ot")
    one, again, side_by_side = (
        run(how, tasks, data),
        run(how, tasks, data),
        run(how, tasks, data, workers=Processes(2, worth_s=0.0)),
    )
    for other in (again, side_by_side):
        pd.testing.assert_frame_equal(one.predictions, other.predictions)
        pd.testing.assert_frame_equal(one.curves, other.curves)


def test_test_labels_and_test_features_never_reach_training(data, tasks):
    """With the test fold's labels shuffled and its features replaced, the fold's model is the same."""
    how = experiment(epochs=3, folds=Folds(k=3))
    before = run(how, tasks, data)
    fold = set(before.predictions.loc[before.predictions["fold"] == 0, "utterance"])
    tested = np.array([name in fold for name in data.utterances])
    labels, features = data.labels.copy(), data.features["a"].copy()
    labels.loc[tested, "age"] += 1000.0
    labels.loc[tested, "speaker"] = labels.loc[tested, "speaker"].to_numpy()[::-1]
    features[tested] *= 50
    after = run(how, tasks, dataclasses.replace(data, labels=labels, features={"a": features}))
    curves = [outcome.curves.query("fold == 0") for outcome in (before, after)]
    pd.testing.assert_frame_equal(*curves)


def test_a_saved_model_answers_as_the_one_that_was_saved(data, tasks, tmp_path):
    """From the file alone, in the label's units and names."""
    how = experiment(views=["a", "b"], fusion="ot", joint=False, epochs=2)
    predictor = run(how, tasks, data).predictor
    predictor.save(tmp_path, {"note": "x"})
    loaded, config = Predictor.load(tmp_path)
    assert config["note"] == "x"
    some = {view: values[:7] for view, values in data.features.items()}
    for task, (answers, probabilities) in predictor(some).items():
        found = loaded(some)[task]
        np.testing.assert_array_equal(found[0], answers)
        np.testing.assert_array_equal(found[1], probabilities)
    assert set(loaded(some)["gender"][0]) <= {"female", "male"}
    assert 10 < loaded(some)["age"][0].mean() < 60


def test_several_layers_are_averaged_with_learned_weights(data, tasks):
    """An experiment on all layers of a view."""
    layers = np.concatenate(
        [np.random.default_rng(1).normal(size=(len(data), 2, 37)).astype(np.float32), data.features["a"]], 1
    )
    outcome = run(
        experiment(tasks=["speaker"], layers="all", epochs=40), tasks, dataclasses.replace(data, features={"a": layers})
    )
    weights = outcome.predictor.models[0].views[0].pooling.weights
    assert int(weights.argmax()) == 2


def test_a_class_that_only_the_test_fold_has_is_scored_as_wrong(tasks):
    """Not an error, and no NaN."""
    rng = np.random.default_rng(0)
    labels = pd.DataFrame({"speaker": ["a", "b"] * 14 + ["c"]})
    names = [str(i) for i in range(29)]
    data = Dataset(names, names, labels, {"a": rng.normal(size=(29, 1, 13)).astype(np.float32)})
    outcome = run(experiment(tasks=["speaker"], epochs=2), tasks, data)
    predictions = outcome.predictions.set_index("speaker.true")
    assert predictions.loc["c", "speaker.predicted"] in ("a", "b")
    assert np.isfinite(outcome.metrics["tasks"]["speaker"]["uar"]["mean"])


@pytest.mark.parametrize("name", ["type", "keys", "train", "a.b"])
def test_a_task_may_have_any_name(name, data):
    """Also one that PyTorch's modules have themselves."""
    task = Task(kind="classification", label="speaker")
    outcome = run(experiment(tasks=[name], epochs=1), {name: task}, data)
    assert set(outcome.metrics["tasks"]) == {name}


@pytest.mark.parametrize(("key", "names"), [("layers", []), ("tasks", ["age", "age"]), ("views", ["a", "a"])])
def test_names_are_given_once_and_at_all(key, names):
    """Refused with the section, not by a crash in training."""
    with pytest.raises(ValueError, match=rf"{key} must name at least one, and each once"):
        experiment(**{key: names, **({"fusion": "concat"} if key == "views" else {})})


def test_the_validation_loss_does_not_depend_on_where_labels_lie(monkeypatch):
    """One loss over all validation rows, also where they are evaluated in parts."""
    from strata.trainers.training import fit as module

    torch.manual_seed(0)
    x, values = torch.randn(90, 1, 5).numpy(), np.full(90, np.nan, np.float32)
    values[:9] = np.arange(9)
    target = Targets("y", Task(kind="regression"), values, ())
    rows = np.arange(90)
    losses = []
    for part in (1000, 7):
        monkeypatch.setattr(module, "EVALUATION_BATCH", part)
        torch.manual_seed(1)
        model = Heads([(1, 5)], experiment(tasks=["y"]), {"y": 1})
        losses.append(module.fit(model, [x], [target], rows, rows, experiment(tasks=["y"], epochs=2), seed=0))
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_the_paper_s_shapes():
    """Widths of TANGO §4: 64 channels on D/4 positions, four enriched blocks, 200-64-56, 30 per task."""
    how = Experiment(views=["a", "b"], fusion=Fusion(kind="ot"), tasks=["x", "y"])
    model = Heads([(1, 512), (1, 1024)], how, {"x": 91, "y": 1})
    assert model.shared[0].weight.shape == (200, 64 * 2 * (128 + 256))
    assert [layer.out_features for layer in model.shared if isinstance(layer, torch.nn.Linear)] == [200, 64, 56]
    assert model.heads[0][0].out_features == 30
    concat = Heads(
        [(1, 512), (1, 1024)], Experiment(views=["a", "b"], encoder="cnn", fusion="concat", tasks=["x"]), {"x": 3}
    )
    assert concat.shared[0].weight.shape == (200, 2 * 56)


@pytest.mark.parametrize(
    "fusion", [Fusion(kind="ot"), Fusion(kind="ot", support="batch"), Fusion(kind="ot", epsilon=0.002), "concat"]
)
def test_an_answer_never_changes_with_who_else_is_asked(fusion, data, tasks, tmp_path):
    """One utterance alone, among all, or in another order; also from the saved model."""
    how = experiment(views=["a", "b"], fusion=fusion, epochs=2, folds=Folds(k=2))
    predictor = run(how, tasks, data).predictor
    predictor.save(tmp_path, {})
    loaded, _ = Predictor.load(tmp_path)
    together = predictor(data.features)
    for rows in ([7], [7, 3, 99], list(range(50, 0, -1))):
        answers = loaded({view: values[rows] for view, values in data.features.items()})
        for task, (predicted, probabilities) in answers.items():
            if probabilities is None:
                np.testing.assert_allclose(predicted, together[task][0][rows], rtol=1e-4)
            else:
                np.testing.assert_allclose(probabilities, together[task][1][rows], atol=1e-5)


def test_utterances_among_which_answers_are_given_are_training_data(data, tasks):
    """With the test fold's features replaced, the answers to another fold's utterances are the same."""
    how = experiment(views=["a", "b"], fusion=Fusion(kind="ot", support="batch"), epochs=2, folds=Folds(k=3))
    made = plan(how, tasks, data)
    job = made.jobs[0]
    before = train(job)
    features = [data.features[view].copy() for view in how.views]
    for values in features:
        values[job.test[1:]] = 1e3
    after = train(dataclasses.replace(job, features=[as_pooled(values) for values in features]))
    assert before.curve == after.curve
    for task, answers in before.outputs.items():
        np.testing.assert_allclose(answers[0], after.outputs[task][0], rtol=1e-5)


def reordered(data: Dataset, order: np.ndarray) -> Dataset:
    """The same utterances in another order."""
    return dataclasses.replace(
        data,
        utterances=[data.utterances[row] for row in order],
        contents=[data.contents[row] for row in order],
        labels=data.labels.iloc[order].reset_index(drop=True),
        features={view: values[order] for view, values in data.features.items()},
    )


@pytest.mark.parametrize("batches", ["shuffled", "balanced"])
def test_the_order_of_the_rows_changes_no_bit(batches, data, tasks):
    """Folds, training, answers and scores; also of the model that is kept."""
    how = experiment(epochs=2, folds=Folds(k=3, stratify="speaker", seed=3), batches=batches)
    order = np.random.default_rng(2).permutation(len(data))
    one, other = run(how, tasks, data), run(how, tasks, reordered(data, order))
    pd.testing.assert_frame_equal(one.predictions, other.predictions)
    pd.testing.assert_frame_equal(one.curves, other.curves)
    assert one.metrics == other.metrics
    for task, (answers, _) in one.predictor(data.features).items():
        np.testing.assert_array_equal(answers, other.predictor(data.features)[task][0])


def test_a_head_that_no_training_label_reached_is_not_scored(data, tasks):
    """Its fold has no score and no answers, the others have theirs."""
    labels = data.labels.assign(age=np.nan)
    how = experiment(tasks=["speaker", "age"], epochs=1, folds=Folds(k=2), final=False)
    first, second = plan(how, tasks, data).folds
    labels.loc[first.test, "age"] = 30.0 + np.arange(len(first.test))
    labels.loc[first.valid[:2], "age"] = [40.0, 50.0]  # and of what the first fold trains on, none
    outcome = run(how, tasks, dataclasses.replace(data, labels=labels))
    rmse, by_speaker = (outcome.metrics["tasks"][name] for name in ("age", "speaker"))
    assert rmse["rmse"]["folds"][0] is None
    assert rmse["rmse"]["folds"][1] is not None
    assert None not in by_speaker["accuracy"]["folds"]
    answered = outcome.predictions.groupby("fold")["age.predicted"].count()
    assert answered.tolist() == [0, len(second.test)]
    assert outcome.predictions["age.true"].notna().sum() == len(first.test) + 2
    assert outcome.metrics["num_tested"] == {"speaker": len(data), "age": 2}
