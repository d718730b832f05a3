"""The elimination of a view's layers, in folds and on all utterances."""

import dataclasses
import os
import signal
import threading
from functools import partial

import numpy as np
import pandas as pd
import pytest

from strata.trainers.folds import Fold
from strata.trainers.inputs.data import TrainingError, targets_of
from strata.trainers.inputs.pooled import as_pooled
from strata.trainers.models.unified import UnifiedEmbedding
from strata.trainers.search.rounds import eliminate, num_rounds, train_alone
from strata.trainers.spec import Elimination, Folds, Task
from strata.trainers.training.together import Run, Together
from strata.trainers.training.workers import Processes
from tests.sampling import sweep

LAYERS = tuple("01234")


def section(**changes) -> Elimination:
    """A small elimination, of two folds."""
    given = {"view": "v", "tasks": ["speaker"], "shared": 13, "embedding": 17, "epochs": 4}
    return Elimination(**given | {"folds": Folds(k=2, validation=0.25)} | changes)


def planted(data, informative: int) -> np.ndarray:
    """Noise layers around one that knows the speaker."""
    layers = np.random.default_rng(informative).normal(size=(len(data), 5, 37)).astype(np.float32)
    layers[:, informative] = data.features["a"][:, 0]
    return layers


@pytest.mark.parametrize("informative", sweep((0, 2, 4), keep=1))
def test_planted_truth_survives(informative, data, tasks):
    """One informative layer among noise is the last to go in every fold, and the subset chosen keeps it."""
    how = section(tasks=["speaker", "age"], epochs=30, seeds=[0, 1], shared=64, embedding=128)
    found = eliminate(how, tasks, dataclasses.replace(data, features={"v": planted(data, informative)}), LAYERS)
    for each in [*found.nested["weighted"], found.chosen]:
        assert list(each.rounds_[-1].weights) == [str(informative)]
        assert str(informative) in each.kept_
        assert len(each.rounds_) == 5
    assert all(round_.test["speaker"] > 0.5 for _, round_ in found.nested_choices())


@pytest.mark.parametrize("pooling", sweep(("mean", "learned-norm", "self-attention"), keep=1))
def test_poolings_without_weights_eliminate_by_ablation(pooling, data, tasks):
    """What the validation loss loses without a layer finds the planted one under any pooling."""
    how = section(pooling=pooling, epochs=30, shared=64, embedding=128)
    found = eliminate(how, tasks, dataclasses.replace(data, features={"v": planted(data, 3)[:, 1:4]}), LAYERS[1:4])
    assert list(found.chosen.rounds_[-1].weights) == ["3"]


def test_several_poolings_are_crossed_with_the_rounds(data, tasks):
    """Each has rounds of its own; the choice among all of them is by validation, in each fold by its own."""
    how = section(pooling=["mean", "weighted"], epochs=6)
    found = eliminate(how, tasks, dataclasses.replace(data, features={"v": planted(data, 1)[:, :3]}), LAYERS[:3])
    best = {pooling: each.scores_.max() for pooling, each in found.whole.items()}
    assert best[found.pooling] == max(best.values())
    for number, (pooling, chosen) in enumerate(found.nested_choices()):
        scores = {name: each[number].scores_.max() for name, each in found.nested.items()}
        assert chosen.valid["mean"] == scores[pooling] == max(scores.values())
    assert num_rounds(how, 3) == 2 * 3 * 3


def test_test_data_has_no_say_in_the_choice(data, tasks):
    """Other features and labels of the tested: other test scores, the same everything else."""
    how = section(folds=Folds(given="split", validation=0.25), tasks=["speaker", "age"])
    split = np.where(np.arange(len(data)) % 4 == 0, "test", "train")
    layers, labels = planted(data, 1), data.labels.assign(split=split)
    before = eliminate(how, tasks, dataclasses.replace(data, labels=labels, features={"v": layers}), LAYERS)
    layers[split == "test"] = 7
    changed = labels.assign(age=labels["age"].where(split != "test", labels["age"] * 2))
    after = eliminate(how, tasks, dataclasses.replace(data, labels=changed, features={"v": layers}), LAYERS)
    assert [r.weights for r in before.chosen.rounds_] == [r.weights for r in after.chosen.rounds_]
    assert [r.valid for r in before.chosen.rounds_] == [r.valid for r in after.chosen.rounds_]
    assert before.chosen.kept_ == after.chosen.kept_
    assert [r.test for r in before.chosen.rounds_] != [r.test for r in after.chosen.rounds_]


def test_of_all_utterances_none_is_tested(data, tasks):
    """The elimination whose layers are kept has no test scores: those are the folds'."""
    found = eliminate(section(), tasks, dataclasses.replace(data, features={"v": planted(data, 1)}), LAYERS)
    assert all(r.test == {} for r in found.chosen.rounds_)
    assert all(r.test.keys() == {"speaker", "mean"} for each in found.nested["weighted"] for r in each.rounds_)


def test_noted_rounds_are_not_trained_again(data, tasks, monkeypatch):
    """Cut short after any round, an elimination goes on there, to the same outcome."""
    here = dataclasses.replace(data, features={"v": planted(data, 1)[:, :3]})
    notes = {}
    whole = eliminate(section(), tasks, here, LAYERS[:3], note=notes.__setitem__)
    assert len(notes) == num_rounds(section(), 3) == 9
    trained = []
    train = Together.train
    monkeypatch.setattr(Together, "train", lambda self, runs: trained.extend(runs) or train(self, runs))
    half = dict(list(notes.items())[:4])
    again = eliminate(section(), tasks, here, LAYERS[:3], done=half)
    assert len(trained) == 5
    for pooling in whole.whole:
        assert [r.weights for r in again.whole[pooling].rounds_] == [r.weights for r in whole.whole[pooling].rounds_]


def test_several_seeds_are_averaged(data, tasks):
    """Weights and scores are means over the seeds, with their deviations beside."""
    here = dataclasses.replace(data, features={"v": planted(data, 1)[:, :3]})
    found = [eliminate(section(seeds=seeds), tasks, here, LAYERS[:3]) for seeds in ([0], [7], [0, 7])]
    first, second, both = (each.chosen.rounds_[0] for each in found)
    for layer in LAYERS[:3]:
        pair = first.weights[layer], second.weights[layer]
        assert both.weights[layer] == pytest.approx(np.mean(pair), rel=1e-4)
        assert both.spread["weights"][layer] == pytest.approx(np.std(pair, ddof=1), rel=1e-2, abs=1e-6)


def test_a_part_without_labels_is_refused(data, tasks):
    """Instead of an average over nothing."""
    labels = data.labels.assign(emotion=[None if i else "a" for i in range(len(data))])
    labels.loc[1, "emotion"] = "b"
    with pytest.raises(TrainingError, match="task emotion: a part of a fold has no labelled utterance"):
        eliminate(section(tasks=["emotion"], view="a"), tasks, dataclasses.replace(data, labels=labels), ["0"])


def test_each_corpus_labels_a_task_of_its_own(data):
    """A composite training set: labels of other corpora do not count, and every utterance serves its own task."""
    corpora = ["one" if i % 2 else "two" for i in range(len(data))]
    tasks = {"speaker": Task(kind="classification", corpora=["one"]), "emotion": Task(kind="classification")}
    here = dataclasses.replace(data, corpora=corpora, features={"v": planted(data, 1)[:, :2]})
    notes = {}
    eliminate(section(tasks=["speaker", "emotion"]), tasks, here, LAYERS[:2], note=notes.__setitem__)
    hidden = data.labels["speaker"].where(pd.Series(corpora) == "one", "nobody")
    other = dataclasses.replace(here, labels=data.labels.assign(speaker=hidden))
    again = {}
    eliminate(section(tasks=["speaker", "emotion"]), tasks, other, LAYERS[:2], note=again.__setitem__)
    assert {key: found.valid for key, found in notes.items()} == {key: found.valid for key, found in again.items()}


def test_a_task_cannot_be_what_keeps_folds_apart(data, tasks):
    """Nobody who is tested would have been trained on."""
    how = section(folds=Folds(k=2, disjoint="speaker"))
    with pytest.raises(TrainingError, match="task speaker cannot be tested on folds that are disjoint by speaker"):
        eliminate(how, tasks, dataclasses.replace(data, features={"v": planted(data, 1)}), LAYERS)


def test_threads_of_one_process_train_in_turn(data, tasks, monkeypatch):
    """A cluster's worker may have several: each model gets the numbers that it gets alone."""
    how = section(pooling=["mean"])
    view = as_pooled(planted(data, 1))
    rows = np.arange(len(data))
    fold = Fold(rows[::3], rows[1::3], rows[2::3])
    targets = [targets_of("speaker", tasks["speaker"], data.labels, data.corpora)]
    runs = [(fold, Run(0, (0, 1, 2), seed)) for seed in (0, 1)]
    alone = partial(train_alone, how, "mean", targets, view)
    expected = [alone(which) for which in runs]
    done, found = threading.Event(), {}
    other = threading.Thread(target=lambda: (found.update(second=alone(runs[1])), done.set()))

    def build(*arguments):
        if not other.ident:
            other.start()
            done.wait(1.0)  # in vain: it is not its turn
        return UnifiedEmbedding(*arguments)

    monkeypatch.setattr("strata.trainers.search.rounds.UnifiedEmbedding", build)
    first = alone(runs[0])
    other.join()
    for ran, each in zip((first, found["second"]), expected, strict=True):
        assert ran.curve == each.curve
        np.testing.assert_array_equal(ran.outputs["speaker"], each.outputs["speaker"])


@pytest.mark.slow  # as test_experiment_troubles.py shows it of experiments, by the same code
@pytest.mark.parametrize("pooling", ["weighted", "mean"])
def test_a_worker_that_is_ended_from_outside_is_one_line(pooling, data, tasks, monkeypatch):
    """Of the poolings that are trained in processes of their own."""
    how = section(pooling=pooling, importance="ablation", tasks=["age"])
    monkeypatch.setattr("strata.trainers.search.rounds.train_alone", _dies)
    two = dataclasses.replace(data, features={"v": planted(data, 1)[:, :2]})
    with pytest.raises(TrainingError, match="a worker process was ended from outside"):
        eliminate(how, tasks, two, LAYERS[:2], workers=Processes(2, worth_s=0.0))


def _dies(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
