import dataclasses
import os
import re

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import delayed

from strata.trainers.evaluation.experiment import num_models, plan, run, run_all
from strata.trainers.evaluation.predictor import Predictor
from strata.trainers.inputs.data import Dataset, Targets, TrainingError, targets_of
from strata.trainers.models.heads import Heads
from strata.trainers.spec import Experiment, Folds, Fusion, Task
from strata.trainers.training import jobs
from strata.trainers.training.jobs import side_by_side, train

ALL = ["speaker", "emotion", "gender", "age"]
CONFIGURATIONS = {
    "SVST": {"views": ["a"], "joint": False},
    "SVMT": {"views": ["a"]},
    "MVMT-concat": {"views": ["a", "b"], "fusion": "concat"},
    "TANGO": {"views": ["a", "b"], "fusion": "ot"},
}


def experiment(**changes):
    options = {"views": ["a"], "tasks": ALL, "epochs": 40, "folds": Folds(k=3, stratify="speaker")}
    return Experiment(**options | changes)


@pytest.mark.parametrize("setup", CONFIGURATIONS)
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
    one, again, side_by_side = run(how, tasks, data), run(how, tasks, data), run(how, tasks, data, workers=2)
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


def test_numbers_as_class_names_keep_every_digit():
    """No two classes merge."""
    labels = pd.DataFrame({"x": [1000001.0, 1000002.0, 0.1, 20240101.0]})
    assert targets_of("x", Task(kind="classification"), labels).classes == ("0.1", "1000001", "1000002", "20240101")


def test_the_validation_loss_does_not_depend_on_where_labels_lie(monkeypatch):
    """One loss over all validation rows, also where they are evaluated in parts."""
    from strata.trainers.training import fit as module

    torch.manual_seed(0)
    x, values = torch.randn(90, 1, 5), np.full(90, np.nan, np.float32)
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


def test_labels_become_sorted_classes_and_missing_ones_minus_one():
    """Numbers used as names are written as people write them."""
    found = targets_of("x", Task(kind="classification"), pd.DataFrame({"x": [2.0, None, 10.0, 2.0]}))
    assert found.classes == ("10", "2")
    assert found.values.tolist() == [1, -1, 0, 1]
    assert found.names(found.values).tolist() == ["2", None, "10", "2"]


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
    features = [values.copy() for values in job.features]
    for values in features:
        values[job.test[1:]] = 1e3
    after = train(dataclasses.replace(job, features=features))
    assert before.curve == after.curve
    for task, answers in before.outputs.items():
        np.testing.assert_allclose(answers[0], after.outputs[task][0], rtol=1e-5)


def test_one_experiment_that_cannot_be_trained_leaves_the_others(data, tasks):
    """In the order of the plans: an outcome, or what went wrong; divergence is an error of its own experiment."""
    good = experiment(epochs=1, folds=Folds(k=2), final=False)
    bad = good.model_copy(update={"folds": Folds(k=2, disjoint="speaker")})
    wild = good.model_copy(update={"learning_rate": 1e30, "epochs": 2})
    plans = [lambda how=how: plan(how, tasks, data) for how in (bad, good, wild, bad, good, bad)]
    found = list(run_all(plans, workers=2))
    assert [type(each).__name__ for each in found] == [
        *("TrainingError", "Outcome", "TrainingError", "TrainingError", "Outcome", "TrainingError")
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
    before, killed, after = run_all([lambda: good, lambda: made, lambda: good], workers=2)
    assert isinstance(killed, TrainingError)
    assert re.search(r"worker process was ended from outside.* lower train\.workers", str(killed))
    pd.testing.assert_frame_equal(before.predictions, after.predictions)


class _Unsendable:
    """Cannot be handed to another process, as arrays where /dev/shm is full."""

    def __reduce__(self):
        raise OSError(28, "No space left on device")


@pytest.mark.slow
def test_what_cannot_be_handed_over_costs_its_own_experiment(data, tasks):
    """The PicklingError of a full /dev/shm: told as what it is, in the place of the outcome; the others are trained."""
    good, made = (plan(experiment(epochs=1, folds=Folds(k=2), final=False), tasks, data) for _ in range(2))
    object.__setattr__(made.jobs[0], "seed", _Unsendable())
    before, refused, after = run_all([lambda: good, lambda: made, lambda: good], workers=2)
    assert isinstance(refused, TrainingError)
    assert "PicklingError" in str(refused)
    pd.testing.assert_frame_equal(before.predictions, after.predictions)


def test_a_full_share_is_done_without(data, tasks, monkeypatch):
    """Arrays that cannot be shared with the workers are copied to them, and the scores are the same."""
    import joblib._memmapping_reducer as sharing

    wide = dataclasses.replace(data, features={"a": np.repeat(data.features["a"], 80, axis=2)})  # else not shared
    assert wide.features["a"].nbytes > 1e6
    how = experiment(tasks=["speaker"], encoder="linear", epochs=1, folds=Folds(k=2), final=False)
    (alone,) = run_all([lambda: plan(how, tasks, wide)])
    full = []

    def dump(*arguments, **options):
        full.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sharing, "dump", dump)
    (found,) = run_all([lambda: plan(how, tasks, wide)], workers=2)
    assert full
    pd.testing.assert_frame_equal(found.predictions, alone.predictions)


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


@pytest.mark.parametrize("workers", [1, 2])
def test_calls_that_cannot_be_made_do_not_pass_for_the_end_of_them(workers):
    """What comes of those before is given, then the error: nobody takes half of the models for all."""

    def calls():
        yield delayed(abs)(-1)
        raise KeyError("the second")

    given = side_by_side(calls(), workers)
    assert next(given) == 1
    with pytest.raises(KeyError, match="the second"):
        next(given)


def test_an_empty_part_is_one_line(data, tasks, monkeypatch):
    """Of a fold that tests, validates or trains on nobody; the others are trained."""
    from strata.trainers.evaluation import experiment as module

    how = experiment(epochs=1, folds=Folds(k=2), final=False, tasks=["speaker"])
    real = module.cross_validation
    nobody = np.empty(0, np.int64)
    for part in ("train", "valid", "test"):

        def emptied(*arguments, part=part):
            first, *others = real(*arguments)
            return [dataclasses.replace(first, **{part: nobody}), *others]

        monkeypatch.setattr(module, "cross_validation", emptied)
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
