"""Where models are trained: everything of a step lies where the model does."""

import dataclasses

import numpy as np
import pytest
import torch

from strata.trainers.evaluation.experiment import plan, run
from strata.trainers.inputs.data import TrainingError
from strata.trainers.search.rounds import eliminate
from strata.trainers.spec import Elimination, Folds
from strata.trainers.training import fit as loop
from strata.trainers.training import jobs
from strata.trainers.training.device import resolved
from tests.sampling import sweep
from tests.trainers.experiments import experiment

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")
SETUPS = [
    {"views": ["a"], "encoder": "mlp", "balancing": "uncertainty"},
    {"views": ["a"], "encoder": "cnn", "balancing": "gradnorm"},
    {"views": ["a", "b"], "encoder": "cnn", "fusion": "ot", "balancing": "random"},
    {"views": ["a"], "encoder": "unified"},
]


def test_a_gpu_that_is_absent_is_one_line(monkeypatch, data, tasks):
    """Before a model is trained where it is asked for; `auto` is the CPU then."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (resolved("auto").type, resolved("cpu").type) == ("cpu", "cpu")
    with pytest.raises(TrainingError, match=r"expected a GPU for cuda, found none.*write auto or cpu"):
        resolved("cuda")
    made = plan(experiment(folds=Folds(k=2), final=False), tasks, data, "cuda")
    assert "expected a GPU for cuda" in str(jobs.train(made.jobs[0]).error)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolved("auto").type == resolved("cuda").type == "cuda"


def test_all_that_a_step_takes_is_sent_to_the_model(data, tasks, monkeypatch):
    """Batches, labels and what balances the tasks: each is asked to go where the model says that it lies."""
    sent, real = set(), torch.Tensor.to

    def to(tensor, *where, **options):
        if where and isinstance(where[0], torch.device):
            sent.add((tuple(tensor.shape[1:]), where[0].type))
        return real(tensor, *where, **options)

    monkeypatch.setattr(loop, "device_of", lambda model: torch.device("cpu"))
    monkeypatch.setattr(torch.Tensor, "to", to)
    how = experiment(views=["a", "b"], fusion="concat", tasks=["speaker", "age"], epochs=1, folds=Folds(k=2))
    found = jobs.train(plan(how, tasks, data, "cpu").jobs[0])
    assert found.error is None
    shapes = {data.features[view].shape[1:] for view in ("a", "b")} | {()}  # batches, and labels
    assert sent >= {(shape, "cpu") for shape in shapes}


@needs_cuda
@pytest.mark.parametrize("how", sweep(SETUPS, keep=2))
def test_a_gpu_begins_as_the_cpu_does(how, data, tasks):
    """Losses of the first epoch agree to 1e-4; the final model comes back to the CPU."""
    how = experiment(**how, tasks=["speaker", "age"], epochs=1, folds=Folds(k=2))
    here = run(how, tasks, data).curves
    found = [jobs.train(job) for job in plan(how, tasks, data, "cuda").jobs]
    assert [each.error for each in found] == [None] * len(found)
    losses = here[["train_loss", "valid_loss"]].to_numpy()
    np.testing.assert_allclose([each.curve[0][1:] for each in found[:2]], losses, rtol=1e-4)
    assert {parameter.device.type for parameter in found[-1].model.parameters()} == {"cpu"}


def eliminated(device, data, tasks, pooling):
    """The first round of a short elimination, of both kinds of training."""
    layers = np.repeat(data.features["a"], 3, axis=1)
    how = Elimination(view="v", tasks=["speaker", "age"], pooling=pooling, epochs=2, folds=Folds(k=2), shared=8)
    return eliminate(how, tasks, dataclasses.replace(data, features={"v": layers}), list("abc"), device=device)


@pytest.mark.parametrize("pooling", ["weighted", "mean"])
def test_an_elimination_asks_for_its_device(pooling, data, tasks, monkeypatch):
    """Stacks and single models alike: where there is no GPU, `cuda` is refused and `auto` is the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (
        eliminated("auto", data, tasks, pooling).chosen.rounds_
        == eliminated("cpu", data, tasks, pooling).chosen.rounds_
    )
    with pytest.raises(TrainingError, match="expected a GPU for cuda"):
        eliminated("cuda", data, tasks, pooling)


@needs_cuda
@pytest.mark.parametrize("pooling", ["weighted", "mean"])
def test_an_elimination_on_a_gpu_begins_as_on_the_cpu(pooling, data, tasks):
    """Weights and scores of the first round."""
    here, there = (eliminated(device, data, tasks, pooling).chosen.rounds_[0] for device in ("cpu", "cuda"))
    np.testing.assert_allclose(list(there.weights.values()), list(here.weights.values()), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(list(there.valid.values()), list(here.valid.values()), atol=0.05)


@needs_cuda
def test_a_gpu_scores_as_the_cpu_does(data, tasks):
    """Within what chance does from seed to seed."""
    how = experiment(tasks=["speaker"], epochs=10, folds=Folds(k=2), final=False, seeds=[0, 1, 2])
    here = run(how, tasks, data)
    made = plan(how, tasks, data, "cuda")
    found = [jobs.train(job) for job in made.jobs]
    (target,) = made.targets
    answers = [target.kind.predictions(each.outputs["speaker"])[0] for each in found]
    scores = [target.score(answer, job.test) for answer, job in zip(answers, made.jobs, strict=True)]
    expected = here.metrics["tasks"]["speaker"]["accuracy"]["folds"]
    assert abs(np.mean(scores) - np.mean(expected)) <= max(np.std(expected, ddof=1), 0.02)
