import math

import numpy as np
import pytest
import torch

from trainers.losses import task_loss
from trainers.metrics import chance, score, scores, summary


def test_metrics_worked_by_hand():
    """Four of class 0, one of class 1; class 2 is absent from the fold and does not count."""
    found = scores("classification", np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 2, 1]))
    assert found["accuracy"] == pytest.approx(0.8)
    assert found["uar"] == pytest.approx((0.75 + 1) / 2)
    assert found["f1"] == pytest.approx((2 * 1 * 0.75 / 1.75 + 1) / 2)
    errors = scores("regression", np.array([1.0, 2.0, 6.0]), np.array([1.0, 4.0, 6.0]))
    assert errors["rmse"] == pytest.approx(math.sqrt(4 / 3))
    assert errors["mae"] == pytest.approx(2 / 3)
    assert errors["r2"] == pytest.approx(1 - 4 / 14)


@pytest.mark.parametrize("true", [[5.0], [5.0, 5.0]])
def test_degenerate_folds_have_a_score_and_no_nan(true):
    """One utterance, or a constant label."""
    for predicted in (np.array(true), np.array(true) + 1):
        assert all(math.isfinite(v) for v in scores("regression", np.array(true), predicted).values())
    assert score("regression", np.array(true), np.array(true)) == 1.0


def test_chance_uses_training_labels_only():
    """The most frequent class, or the mean, of the training part."""
    assert chance("classification", np.array([0, 0, 1]), np.array([1, 1, 0, 1])) == 0.25
    assert chance("regression", np.array([2.0, 4.0]), np.array([5.0, 1.0])) == pytest.approx(2.0)


def test_a_fold_without_labels_does_not_count():
    """Its place stays visible."""
    assert summary([0.5, None, 0.7]) == {
        "mean": pytest.approx(0.6),
        "sd": pytest.approx(math.sqrt(0.02)),
        "folds": [0.5, None, 0.7],
    }


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "rmse", "mse", "mae"])
def test_unlabelled_utterances_pull_at_nothing(loss):
    """Neither the value nor the gradient changes when they are left out; a batch without labels gives 0, not NaN."""
    torch.manual_seed(0)
    outputs = torch.randn(5, 3 if loss == "cross_entropy" else 1, requires_grad=True)
    classes = loss in ("cross_entropy", "bce")
    target = torch.tensor([0, -1, 1, -1, 0]) if classes else torch.tensor([0.5, math.nan, 1.0, math.nan, -2.0])
    whole, part = task_loss(loss, outputs, target), task_loss(loss, outputs[::2], target[::2])
    torch.testing.assert_close(whole, part)
    (gradient,) = torch.autograd.grad(whole, outputs)
    assert (gradient[[1, 3]] == 0).all()
    assert gradient[0].abs().sum() > 0
    nothing = task_loss(loss, outputs, torch.full_like(target, -1 if classes else math.nan))
    (gradient,) = torch.autograd.grad(nothing, outputs)
    assert nothing == 0
    assert (gradient == 0).all()


def test_rmse_has_a_gradient_at_a_perfect_fit():
    """The root's derivative is infinite at 0."""
    output = torch.ones(3, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(task_loss("rmse", output, torch.ones(3)), output)
    assert torch.isfinite(gradient).all()
