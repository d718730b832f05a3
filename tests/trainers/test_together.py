"""Trained together or alone: the same models."""

import numpy as np
import pytest

from benchmarks import plain_unified
from strata.trainers.folds import cross_validation
from strata.trainers.inputs.data import TrainingError, targets_of
from strata.trainers.inputs.pooled import as_pooled
from strata.trainers.search.rounds import train_alone
from strata.trainers.spec import Elimination, Folds, Task
from strata.trainers.training.together import Run, Together

LAYERS, DIM = 5, 7


@pytest.fixture
def values(data):
    rng = np.random.default_rng(3)
    layers = rng.normal(size=(len(data), LAYERS, DIM)).astype(np.float32) * rng.uniform(0.1, 10, (LAYERS, DIM))
    layers[:, 2] += data.features["a"][:, 0, :DIM]
    return layers.astype(np.float32)


@pytest.mark.parametrize("batch_size", [11, 19, 64])
def test_runs_trained_together_are_those_trained_alone(data, tasks, values, batch_size):
    """Folds, seeds and subsets of layers in one stack: curves, weights and answers of the loop of all heads.

    A batch of 11 has fewer utterances than there are outputs, so FC2 stays as it is; tasks have missing labels;
    runs stop early at different epochs, and penalties are large enough to be seen.
    """
    how = Elimination(
        view="v", tasks=list(tasks), shared=13, embedding=17, epochs=14, patience=2, batch_size=batch_size,
        l1=1e-4, l2=1e-3, learning_rate=0.01,
    )  # fmt: skip
    targets = [targets_of(name, tasks[name], data.labels) for name in how.tasks]
    folds = cross_validation(data.labels, data.contents, Folds(k=3, validation=0.2))
    runs = [Run(0, (0, 2, 4), 0), Run(1, (1, 2, 3), 0), Run(0, (0, 2, 4), 5), Run(2, (2, 3, 4), 5)]
    found = Together(how, targets, values, folds).train(runs)
    lengths = set()
    for run, together in zip(runs, found, strict=True):
        alone = train_alone(how, "weighted", targets, as_pooled(values), (folds[run.fold], run))
        np.testing.assert_allclose(together.curve, alone.curve, rtol=2e-4)
        np.testing.assert_allclose(together.weights, alone.weights, rtol=1e-3)
        for task in tasks:
            np.testing.assert_allclose(together.outputs[task], alone.outputs[task], rtol=2e-3, atol=2e-3)
        lengths.add(len(alone.curve))
    assert len(lengths) > 1, "no run left the stack before another"


def test_memory_may_force_stacks_apart(data, tasks, values, monkeypatch):
    """One run at a time, one fold's table at a time: the same answers as all at once."""
    how = Elimination(view="v", tasks=["speaker", "age"], shared=13, embedding=17, epochs=3)
    targets = [targets_of(name, tasks[name], data.labels) for name in how.tasks]
    folds = cross_validation(data.labels, data.contents, Folds(k=3))
    runs = [Run(fold, (0, 1, 2, 3, 4), seed) for seed in (0, 1) for fold in (0, 1, 2)]
    at_once = Together(how, targets, values, folds).train(runs)
    monkeypatch.setattr("strata.trainers.training.together.BATCH_BYTES", 1)
    monkeypatch.setattr("strata.trainers.training.together.STACK_BYTES", 1)
    apart = Together(how, targets, values, folds).train(runs)
    for one, other in zip(at_once, apart, strict=True):
        np.testing.assert_allclose(one.weights, other.weights, rtol=1e-4)
        np.testing.assert_allclose(one.outputs["age"], other.outputs["age"], rtol=1e-3, atol=1e-3)


def test_a_diverging_run_is_an_error(data, tasks, values):
    """Instead of weights that mean nothing."""
    how = Elimination(view="v", tasks=["age"], shared=13, embedding=17, epochs=3, learning_rate=1e30)
    targets = [targets_of("age", tasks["age"], data.labels)]
    folds = cross_validation(data.labels, data.contents, Folds(k=3))
    with pytest.raises(TrainingError, match="training diverged: no finite validation loss in 3 epochs"):
        Together(how, targets, values, folds).train([Run(0, (0, 1), 0)])


def test_updates_are_those_of_the_plain_loop(data, values):
    """Against what one would write first: FC1 on every layer, penalties by autograd, a DataLoader, plain Adam."""
    tasks = {name: Task(kind="classification", weight=0.33) for name in ("speaker", "sex")}
    how = Elimination(
        view="v", tasks=list(tasks), shared=13, embedding=17, epochs=12, patience=12, batch_size=19, l1=1e-4, l2=1e-3
    )
    targets = [targets_of(name, tasks[name], data.labels) for name in how.tasks]
    (fold, *_) = cross_validation(data.labels, data.contents, Folds(k=3, validation=0.2))
    (ours,) = Together(how, targets, values, [fold]).train([Run(0, (0, 2, 3), 4)])
    weights, curve = plain_unified.train(how, targets, values, fold, (0, 2, 3), 4)
    np.testing.assert_allclose([losses for _, *losses in ours.curve], curve, rtol=2e-4)
    assert ours.curve[-1][2] < ours.curve[0][2]
    np.testing.assert_allclose(ours.weights, weights, rtol=1e-3)  # the last epoch is the best: see the curve
    assert np.argmin([valid for _, valid in curve]) == len(curve) - 1
