import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from strata.trainers.inputs.data import TrainingError, targets_of
from strata.trainers.models.heads import Heads
from strata.trainers.spec import Experiment, Task
from strata.trainers.tasks.losses import task_loss
from strata.trainers.training.fit import fit

NUM, DIM = 113, 7
TRAIN, VALID = np.arange(89), np.arange(89, NUM)
TASKS = {
    "keyword": Task(kind="classification"),
    "sex": Task(kind="binary", weight=0.5),
    "age": Task(kind="regression", loss="mse", weight=2.0),
}


@pytest.fixture
def targets():
    """A composite set: every utterance is labelled for one task, seven in ten for the keyword."""
    owner = np.resize([0] * 7 + [1, 2, 2], NUM)
    labels = pd.DataFrame(
        {
            "keyword": [f"k{i % 3}" if o == 0 else None for i, o in enumerate(owner)],
            "sex": ["fm"[i % 4 > 1] if o == 1 else None for i, o in enumerate(owner)],
            "age": [float(i % 5) if o == 2 else np.nan for i, o in enumerate(owner)],
        }
    )
    return [targets_of(name, task, labels) for name, task in TASKS.items()]


@pytest.fixture
def features():
    """The first dimension is the utterance's number, scaled."""
    x = torch.randn(NUM, 1, DIM, generator=torch.Generator().manual_seed(0))
    x[:, 0, 0] = torch.arange(NUM) / NUM
    return x


def _model(how, targets, dtype=torch.float32):
    torch.manual_seed(0)
    return Heads([(1, DIM)], how, {target.name: target.num_outputs for target in targets}).to(dtype)


def _how(**changes):
    options = {"views": ["a"], "tasks": list(TASKS), "encoder": "mlp", "hidden": [17, 11], "head": 5}
    return Experiment(**options | {"epochs": 5, "patience": 5, "batch_size": 13} | changes)


def _equal_loss(model, features, targets, rows):
    """Σ w L over some rows, put together here."""
    model.eval()
    with torch.no_grad():
        found = model(features[rows])
    total = 0.0
    for target, mean, scale in zip(targets, model.target_mean, model.target_scale, strict=True):
        wanted = torch.from_numpy(target.values)[rows]
        wanted = (wanted - mean) / scale if wanted.is_floating_point() else wanted
        total += target.task.weight * task_loss(target.task.effective_loss, found[target.name], wanted).item()
    return total


@pytest.mark.parametrize("batches", ["shuffled", "balanced"])
@pytest.mark.parametrize("balancing", ["equal", "uncertainty", "gradnorm", "random"])
def test_validation_is_by_the_tasks_own_weights_whatever_the_balancing(balancing, batches, features, targets):
    """What decides is the same sum for all of them; the training goes down by it, and is the same to the bit again."""
    how = _how(balancing=balancing, batches=batches, learning_rate=3e-3, epochs=12)
    told, curves = [], []
    for _ in range(2):
        model = _model(how, targets)
        keys = set(model.state_dict())

        def watch(epoch, valid_loss, model=model):
            told.append((valid_loss, _equal_loss(model, features, targets, VALID)))

        curves.append(fit(model, [features.numpy()], targets, TRAIN, VALID, how, 3, watch))
        assert set(model.state_dict()) == keys
    assert curves[0] == curves[1]
    np.testing.assert_allclose(*np.transpose(told), rtol=1e-5)
    assert curves[0][-1][1] < 0.95 * curves[0][0][1]


def test_balancings_differ(features, targets):
    """From the same start, over the same batches."""
    curves = []
    for balancing in ("equal", "uncertainty", "gradnorm", "random"):
        how = _how(balancing=balancing)
        curves.append(tuple(fit(_model(how, targets), [features.numpy()], targets, TRAIN, VALID, how, 3)))
    assert len(set(curves)) == 4


def test_balanced_batches_reach_the_model(features, targets):
    """Four utterances of each task in every step, though the smallest has a tenth of the labels."""
    how = _how(batches="balanced", epochs=2)
    model, seen = _model(how, targets), []

    def note(module, given):
        if module.training:
            seen.append((given[0][:, 0, 0] * NUM).round().long().numpy())

    model.register_forward_pre_hook(note)
    fit(model, [features.numpy()], targets, TRAIN, VALID, how, 3)
    assert len(seen) == 2 * 7
    for rows in seen:
        assert [target.known[rows].sum() for target in targets] == [4, 4, 4]
        assert set(rows) <= set(TRAIN)


def test_batches_too_small_for_all_tasks_are_refused(features, targets):
    """Before any step."""
    how = _how(batches="balanced", batch_size=2)
    model = _model(how, targets)
    before = copy.deepcopy(model.shared.state_dict())
    with pytest.raises(TrainingError, match=r"batch_size of at least one per task: expected 3 or more, found 2"):
        fit(model, [features.numpy()], targets, TRAIN, VALID, how, 3)
    torch.testing.assert_close(model.shared.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(("l1", "l2"), [(1e-3, 0.0), (0.0, 1e-2), (1e-3, 1e-2), (0.0, 0.0)])
@pytest.mark.parametrize("balancing", ["equal", "uncertainty"])
def test_penalties_are_those_of_backpropagation(l1, l2, balancing, features, targets):
    """λ1 Σ|w| + λ2 Σw² as a part of the loss, by autograd and a plain Adam: the same weights after every epoch.

    What a balancing learns is not penalised: it is no weight of the model.
    """
    used = [targets[0], dataclasses.replace(targets[0], name="again")][: 2 if balancing == "uncertainty" else 1]
    how = _how(l1=l1, l2=l2, tasks=[each.name for each in used], balancing=balancing, learning_rate=1e-2)
    ours, theirs, states = _model(how, used, torch.float64), _model(how, used, torch.float64), []
    with torch.no_grad():  # at 0 the derivative of |w| is taken to be 0
        for model in (ours, theirs):
            model.shared[0].weight[:3] = 0
            model.register_forward_pre_hook(lambda _, views: tuple(view.double() for view in views))
    x = features
    fit(ours, [x.numpy()], used, TRAIN, VALID, how, 3, lambda *_: states.append(copy.deepcopy(ours.state_dict())))

    learned = [torch.zeros((), requires_grad=True) for _ in used] if balancing == "uncertainty" else []
    optimiser = torch.optim.Adam([*theirs.parameters(), *learned], lr=how.learning_rate)
    generator, wanted = torch.Generator().manual_seed(3), torch.from_numpy(targets[0].values)
    for state in states:
        for rows in torch.from_numpy(TRAIN)[torch.randperm(len(TRAIN), generator=generator)].split(how.batch_size):
            known = rows[wanted[rows] >= 0]
            found = theirs(x[known])
            losses = [torch.nn.functional.cross_entropy(found[each.name], wanted[known]) for each in used]
            if learned:
                losses = [one / (2 * alpha.exp()) + alpha / 2 for one, alpha in zip(losses, learned, strict=True)]
            loss = sum(losses)
            penalty = sum(l1 * p.abs().sum() + l2 * p.square().sum() for p in theirs.parameters())
            optimiser.zero_grad()
            (loss + penalty).backward()
            optimiser.step()
        torch.testing.assert_close(state, theirs.state_dict(), rtol=1e-6, atol=1e-9)
