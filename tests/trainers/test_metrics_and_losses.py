import math

import audmetric
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from strata.pipeline.results.ranking import METRICS as WRITTEN
from strata.trainers.evaluation.detection import equal_error_rate, min_dcf
from strata.trainers.inputs.data import Targets
from strata.trainers.spec import Task
from strata.trainers.tasks import KINDS
from strata.trainers.tasks.losses import task_loss
from strata.trainers.tasks.metrics import summary


def test_metrics_worked_by_hand():
    """Four of class 0, one of class 1; class 2 is absent from the fold and does not count."""
    found = KINDS["classification"].scores(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 2, 1]))
    assert found["accuracy"] == pytest.approx(0.8)
    assert found["uar"] == pytest.approx((0.75 + 1) / 2)
    assert found["f1"] == pytest.approx((2 * 1 * 0.75 / 1.75 + 1) / 2)
    errors = KINDS["regression"].scores(np.array([1.0, 2.0, 6.0]), np.array([1.0, 4.0, 6.0]))
    assert errors["rmse"] == pytest.approx(math.sqrt(4 / 3))
    assert errors["mae"] == pytest.approx(2 / 3)
    assert errors["r2"] == pytest.approx(1 - 4 / 14)
    # The means are 3 and 11/3; the sums of squares 14 and 38/3, of products 12.
    assert errors["ccc"] == pytest.approx(2 * 12 / (14 + 38 / 3 + 3 * (2 / 3) ** 2))


def _ccc(true: np.ndarray, predicted: np.ndarray) -> float:
    """Lin 1989, as he writes it: 2ρσσ' / (σ² + σ'² + (μ − μ')²)."""
    rho, sds = np.corrcoef(true, predicted)[0, 1], (true.std(), predicted.std())
    return 2 * rho * sds[0] * sds[1] / (sds[0] ** 2 + sds[1] ** 2 + (true.mean() - predicted.mean()) ** 2)


@pytest.mark.parametrize("seed", range(5))
def test_concordance_agrees_with_other_implementations(seed):
    """To 1e-6: with Lin's formula through Pearson's correlation, and with audmetric."""
    rng = np.random.default_rng(seed)
    true = 45 + 15 * rng.normal(size=97)
    predicted = 40 + seed * (true - 45) + 7 * rng.normal(size=97)
    found = KINDS["regression"].scores(true, predicted)["ccc"]
    assert found == pytest.approx(_ccc(true, predicted), abs=1e-6)
    assert found == pytest.approx(audmetric.concordance_cc(true, predicted), abs=1e-6)


def test_every_metric_is_computed_written_and_usable_as_the_primary_one():
    """The names in `trainers.spec` are those of the scores; errors are the ones of which less is better."""
    true = {"regression": np.array([1.0, 2.0, 4.0]), "binary": np.array([0, 1, 1])}
    true["classification"] = true["binary"]
    for name, kind in KINDS.items():
        assert set(kind.metrics) == set(kind.scores(true[name], true[name]))
        for metric in kind.metrics:
            assert math.isfinite(kind.chance(true[name], true[name], Task(kind=name, metric=metric).primary))
            assert metric in WRITTEN
    assert {name for name, how in WRITTEN.items() if not how.higher_is_better} == {
        "rmse", "mae", "wer", "eer", "min_dcf",
    }  # fmt: skip


@pytest.mark.parametrize("true", [[5.0], [5.0, 5.0]])
def test_degenerate_folds_have_a_score_and_no_nan(true):
    """One utterance, or a constant label."""
    for predicted in (np.array(true), np.array(true) + 1):
        assert all(math.isfinite(v) for v in KINDS["regression"].scores(np.array(true), predicted).values())
    targets = Targets("age", Task(kind="regression"), np.array(true), ())
    assert targets.score(np.array(true), np.arange(len(true))) == 1.0
    assert KINDS["regression"].scores(np.array(true), np.array(true))["ccc"] == 1.0
    assert KINDS["regression"].scores(np.array(true), np.array(true) + 1)["ccc"] == 0.0


def test_a_constant_prediction_has_no_concordance():
    """Whatever it is."""
    assert KINDS["regression"].scores(np.array([1.0, 2.0, 3.0]), np.full(3, 2.0))["ccc"] == 0.0


def test_chance_uses_training_labels_only():
    """The most frequent class, or the mean, of the training part, by whatever metric."""
    train, test = np.array([0, 0, 1]), np.array([1, 1, 0, 1])
    assert KINDS["classification"].chance(train, test, "accuracy") == 0.25
    assert KINDS["classification"].chance(train, test, "uar") == 0.5
    train, test = np.array([2.0, 4.0]), np.array([5.0, 1.0])
    assert KINDS["regression"].chance(train, test, "rmse") == pytest.approx(2.0)
    assert KINDS["regression"].chance(train, test, "ccc") == pytest.approx(0.0)


def test_a_fold_without_labels_does_not_count():
    """Its place stays visible."""
    assert summary([0.5, None, 0.7]) == {
        "mean": pytest.approx(0.6),
        "sd": pytest.approx(math.sqrt(0.02)),
        "folds": [0.5, None, 0.7],
    }


@pytest.mark.parametrize("values", [[0.5], [None, 0.5], []])
def test_fewer_than_two_values_have_no_standard_deviation(values):
    """None, and not 0, which would say that they agree."""
    assert summary(values)["sd"] is None


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "rmse", "mse", "mae", "ccc"])
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


def test_the_loss_of_concordance_is_one_minus_the_metric():
    """To 1e-6, of the labelled utterances."""
    torch.manual_seed(0)
    target = torch.randn(53, dtype=torch.float64)
    output = (0.7 * target + 0.4 * torch.randn(53, dtype=torch.float64) - 0.2)[:, None]
    expected = 1 - _ccc(target.numpy(), output[:, 0].numpy())
    assert task_loss("ccc", output, target).item() == pytest.approx(expected, abs=1e-6)
    target[7] = math.nan
    assert task_loss("ccc", output, target).item() != pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("output", "target"),
    [([0.3], [1.0]), ([1.0], [1.0]), ([0.5, 0.5], [1.0, 1.0]), ([1.0, 1.0], [1.0, 1.0]), ([0.5, 0.5], [0.0, 1.0])],
)
def test_the_loss_of_concordance_is_finite_without_spread(output, target):
    """One labelled utterance, or outputs or targets that are all the same: worth 1, with a finite gradient."""
    output = torch.tensor(output)[:, None].requires_grad_()
    loss = task_loss("ccc", output, torch.tensor(target))
    (gradient,) = torch.autograd.grad(loss, output)
    assert loss.item() == pytest.approx(1.0)
    assert torch.isfinite(gradient).all()


def test_error_rates_worked_by_hand():
    """Two targets and four non-targets: (0, 1) → (0, ½) → (¼, ½) → (½, 0), crossed between the last two at t = ⅓."""
    targets = np.array([True, False, True, False, False, False])
    found = np.array([5.0, 4.0, 3.0, 3.0, 2.0, 1.0])
    assert equal_error_rate(targets, found) == pytest.approx(1 / 4 + (1 / 3) * (1 / 4))
    # At a prior of ½ the cost is missed + passed: ½ at the threshold 5, and again at 3.
    assert min_dcf(targets, found, prior=0.5) == pytest.approx(0.5)
    # At 1 in 100 it is missed + 99 · passed: ½ at the threshold 5, where nothing passes that should not.
    assert min_dcf(targets, found) == pytest.approx(0.5)


@pytest.mark.parametrize(("found", "eer", "cost"), [([2, 1], 0.0, 0.0), ([1, 2], 1.0, 1.0), ([1, 1], 0.5, 1.0)])
def test_error_rates_of_two_trials(found, eer, cost):
    """In the right order, in the wrong one, and undecided."""
    targets, found = np.array([True, False]), np.array(found, np.float64)
    assert equal_error_rate(targets, found) == eer
    assert min_dcf(targets, found) == cost


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 300), st.sampled_from([2, 5, 1000]))
def test_equal_error_rate_agrees_with_another_implementation(seed, num, levels):
    """To 1e-6 with the root of scikit-learn's ROC against its diagonal, however many trials share a score."""
    rng = np.random.default_rng(seed)
    targets = np.append([True, False], rng.random(num) < 0.3)
    found = (
        np.round(rng.normal(size=num + 2) + 1.5 * targets, 3) if levels == 1000 else rng.integers(0, levels, num + 2)
    )
    passed, hit, _ = roc_curve(targets, found)
    oracle = brentq(lambda rate: 1 - rate - _on_curve(passed, hit)(rate), 0.0, 1.0)
    assert equal_error_rate(targets, found.astype(np.float64)) == pytest.approx(oracle, abs=1e-6)


def _on_curve(passed: np.ndarray, hit: np.ndarray) -> interp1d:
    """The ROC as a function; where it rises straight up, so steeply that it moves the root by 1e-9 at most."""
    return interp1d(
        passed + 1e-9 * np.arange(len(passed)) / len(passed), hit, bounds_error=False, fill_value=(0.0, 1.0)
    )


def test_equal_error_rate_lies_within_audmetrics_interval():
    """audmetric gives the middle between both rates at the threshold where they are nearest."""
    rng = np.random.default_rng(0)
    targets = rng.random(20_011) < 0.5
    found = rng.normal(size=20_011) + 2 * targets
    expected, stats = audmetric.equal_error_rate(targets, found)
    place = np.argmin(np.abs(stats.fmr - stats.fnmr))
    assert abs(equal_error_rate(targets, found) - expected) <= abs(stats.fmr[place] - stats.fnmr[place]) + 1e-12


@pytest.mark.parametrize(
    ("targets", "found"), [([True, True], [1.0, 2.0]), ([False], [1.0]), ([True, False], [1.0, math.nan])]
)
def test_error_rates_need_both_kinds_of_trials_and_finite_scores(targets, found):
    """Rather than a number that means nothing."""
    with pytest.raises(ValueError, match="expected targets and non-targets with finite scores"):
        equal_error_rate(np.array(targets), np.array(found))
