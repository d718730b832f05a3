import copy

import numpy as np
import pytest
import torch

from benchmarks import plain_heads
from strata.trainers.inputs.data import targets_of
from strata.trainers.models.heads import Heads
from strata.trainers.spec import Experiment
from strata.trainers.training.fit import fit

VIEWS = {"SVMT": ["a"], "MVMT-concat": ["a", "b"], "TANGO": ["a", "b"]}
FUSIONS = {"SVMT": None, "MVMT-concat": "concat", "TANGO": "ot"}


@pytest.mark.parametrize(("setup", "careful"), [(setup, False) for setup in VIEWS] + [("TANGO", True)])
def test_the_loss_curve_is_that_of_a_plain_pytorch_loop(setup, careful, data, tasks):
    """Same start, same batches, same updates: only the rounding differs, over epochs of training. So with both of the
    loops that speed is measured against."""
    experiment = Experiment(
        views=VIEWS[setup],
        encoder="cnn",
        fusion=FUSIONS[setup],
        tasks=["speaker", "gender", "age"],
        epochs=12,
        patience=12,
        learning_rate=3e-3,
    )
    labels = data.labels.assign(age=data.labels["age"].fillna(33.0))
    targets = [targets_of(name, tasks[name], labels) for name in experiment.tasks]
    features = [torch.from_numpy(data.features[view]) for view in experiment.views]
    train, valid = np.arange(91), np.arange(91, len(data))
    torch.manual_seed(0)
    heads = Heads([f.shape[1:] for f in features], experiment, {target.name: target.num_outputs for target in targets})
    heads.prepare([f.numpy() for f in features], train)
    plain = copy.deepcopy(plain_heads.PlainHeads(heads, experiment, careful))
    arrays = [f.numpy() for f in features]
    ours = [training for _, training, _ in fit(heads, arrays, targets, train, valid, experiment, seed=3)]
    ages = labels["age"].to_numpy(np.float32)
    scaled = (ages - ages[train].astype(np.float64).mean()) / ages[train].astype(np.float64).std()
    known = [torch.from_numpy(target.values) for target in targets[:2]] + [torch.from_numpy(scaled.astype(np.float32))]
    theirs = plain_heads.fit(plain, features, known, targets, torch.from_numpy(train), experiment, seed=3)
    assert len(ours) == 12
    assert ours[-1] < 0.9 * ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=2e-4)
