import numpy as np
import pytest
from scipy import stats

from strata.trainers.evaluation.comparison import compare, holm, paired
from strata.trainers.inputs.data import TrainingError


def _metrics(name, folds, fold_hash="x", seeds=1, **tasks):
    sizes = [{"train": 72, "valid": 8, "test": 20}] * folds
    return {
        "experiment": name,
        "folds": {"hash": fold_hash, "sizes": sizes},
        "primary": dict.fromkeys(tasks, "accuracy"),
        "tasks": {task: {"accuracy": {"folds": scores}} for task, scores in tasks.items()},
    }


def test_without_shared_training_data_it_is_the_paired_t_test():
    """Against SciPy's, with its effect size: the correction vanishes where nothing is tested per trained."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=11), rng.normal(0.4, size=11)
    found = paired(first, second, test_share=0.0)
    assert found.p_value == pytest.approx(stats.ttest_rel(second, first).pvalue, rel=1e-12)
    assert found.effect == pytest.approx((second - first).mean() / (second - first).std(ddof=1))


def test_shared_training_data_is_corrected_for():
    """Worked by hand: differences 1, 2, 3; variance 1; t = 2 / sqrt(1/3 + 1/4)."""
    found = paired([0.0, 0.0, 0.0], [1.0, 2.0, 3.0], test_share=0.25)
    assert found.p_value == pytest.approx(2 * stats.t.sf(2 / np.sqrt(1 / 3 + 1 / 4), 2))
    assert (found.difference, found.sd, found.effect, found.num_folds) == (2.0, 1.0, 2.0, 3)


def test_the_level_holds_for_cross_validation():
    """Two equal rules on cross-validated noise: at the level of 5 %, about 5 % false findings and not twice as many."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(400):
        data = rng.normal(size=(100, 2))
        folds = np.array_split(np.arange(100), 10)
        means = np.array([np.delete(data, fold, axis=0).mean(0) for fold in folds])
        errors = np.array([((data[fold] - mean) ** 2).mean(0) for fold, mean in zip(folds, means, strict=True)])
        values.append(paired(*errors.T, test_share=1 / 9).p_value)
    assert np.mean(np.array(values) < 0.05) < 0.08


def test_equal_scores_and_equal_differences_are_defined():
    """No division by a spread of zero, and no certainty from few folds: t = 10 / sqrt(1/folds + test share)."""
    assert paired([0.5, 0.6], [0.5, 0.6], 0.25).p_value == 1.0
    assert paired([0.0, 0.0], [0.0, 0.0], 0.25).p_value == 1.0
    same_step = paired([0.5, 0.6, 0.7], [0.6, 0.7, 0.8], 0.25)
    assert same_step.effect is None
    assert same_step.p_value == pytest.approx(2 * stats.t.sf(10 / np.sqrt(1 / 3 + 0.25), 2), rel=1e-9)


@pytest.mark.parametrize(("folds", "step"), [(5, 0.1), (3, 0.02), (10, -7.5), (2, 0.4)])
@pytest.mark.parametrize("apart", [1e-15, 1e-9, 2e-5, 1e-2])
def test_p_is_continuous_where_folds_differ_by_the_same_amount(folds, step, apart):
    """Equal to the bit, to rounding, or nearly: the same p, which is one that so few folds can tell."""
    rng = np.random.default_rng(folds)
    first = rng.uniform(0.3, 0.6, folds)
    exact, near = (paired(first, first + step * (1 + e * rng.normal(size=folds)), 0.25) for e in (0.0, apart))
    assert near.p_value == pytest.approx(exact.p_value, rel=0.1)
    assert exact.p_value > 1e-9
    assert exact.sd == pytest.approx(0.0, abs=1e-14)


def test_p_never_rises_when_differences_draw_together():
    """From the plain t-test, which holds wherever the spread is a tenth of the difference or more, to no spread."""
    apart = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    values = [paired(np.zeros(5), 0.1 + 0.1 * e * apart, 0.25).p_value for e in (1.0, 0.3, 0.13, 0.12, 0.01, 1e-6, 0)]
    assert (np.diff(values) <= 0).all()
    for spread, found in zip((1.0, 0.3, 0.13), values, strict=False):
        t = 0.1 / (0.1 * spread * apart.std(ddof=1) * np.sqrt(1 / 5 + 0.25))
        assert found == pytest.approx(2 * stats.t.sf(t, 4))


def test_scores_that_are_equal_to_rounding_do_not_differ():
    """0.1 + 0.2 and 0.3 are the same score."""
    found = paired([0.3] * 4, [0.1 + 0.2] * 4, 0.25)
    assert found.p_value > 0.1


def test_holm_worked_by_hand():
    """0.01·4, 0.02·3, 0.03·2 (kept at 0.06 before it), 0.5·1; and never above 1."""
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_seeds_are_averaged_within_folds():
    """Twice the seeds are not twice the data."""
    one = compare(_metrics("a", 3, speaker=[0.1, 0.2, 0.3]), _metrics("b", 3, speaker=[0.2, 0.4, 0.3]))
    two = compare(
        _metrics("a", 3, speaker=[0.1, 0.2, 0.3] * 2), _metrics("b", 3, speaker=[0.1, 0.5, 0.3, 0.3, 0.3, 0.3])
    )
    assert two["speaker"][1].p_value == pytest.approx(one["speaker"][1].p_value)
    assert two["speaker"][1].num_folds == 3


def test_folds_without_a_score_are_left_out_and_other_folds_refused():
    """A fold in which nobody is labelled has no score; experiments on other folds cannot be paired."""
    first = _metrics("a", 3, speaker=[0.1, None, 0.3], age=[1.0, None, None])
    found = compare(first, _metrics("b", 3, speaker=[0.2, 0.3, 0.5], age=[1.0, 2.0, 3.0]))
    assert (set(found), found["speaker"][1].num_folds) == ({"speaker"}, 2)
    with pytest.raises(TrainingError, match="a and b were not tested on the same folds"):
        compare(first, _metrics("b", 3, fold_hash="y", speaker=[0.2, 0.3, 0.5]))
    with pytest.raises(TrainingError, match="share no task"):
        compare(first, _metrics("b", 3, gender=[0.2, 0.3, 0.5]))
    with pytest.raises(ValueError, match="two folds or more"):
        paired([0.1], [0.2], 0.25)
