"""Is one experiment better than another? Differences fold by fold, with their size and what chance would do.

Reads the metrics that `evaluation.experiment` makes of two experiments that were tested on the same folds. Folds share
their training data, so their differences are not independent and a plain t-test finds too much; the variance is
corrected for it (Nadeau & Bengio 2003, "Inference for the Generalization Error", §3). Scores of several seeds are
averaged within a fold first: seeds are no new data.

The test takes the spread of a handful of differences for the truth. Where they happen to be almost the same, it would
say 8e-21 of five folds, and of five that are the same to the bit nothing at all. One rule holds for all of them: a
spread is counted as no less than a tenth of the mean difference (`LEAST_SPREAD`), and as no less than rounding of the
scores makes. The p value is so a continuous function of the scores, which never rises when the differences draw
together, and which of five folds is never below 1e-4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from strata.trainers.inputs.data import TrainingError

LEAST_SPREAD = 0.1
"""Of the folds' differences, in units of their mean, that a test reckons with."""


@dataclass(frozen=True)
class Paired:
    """How a second experiment's scores differ from a first one's."""

    difference: float
    """Mean over the folds of second − first, in the metric's unit."""
    sd: float
    """Standard deviation of the folds' differences."""
    effect: float | None
    """Cohen's d of paired samples: `difference` in units of `sd`; None where folds differ by the same amount, to
    rounding, and the ratio would say nothing."""
    p_value: float
    """Two-sided: how likely a difference this large is where there is none; 1 where all scores are equal."""
    num_folds: int


def paired(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray, test_share: float) -> Paired:
    """Compares scores fold by fold by the corrected resampled t-test, with the least spread that the module tells of.

    Args:
        first: a score per fold.
        second: the other's, of the same folds in the same order.
        test_share: size of a test part divided by that of its training part: about 1 / (k − 1) for k folds.

    Raises:
        ValueError: fewer than two folds, or not as many of the one as of the other.
    """
    differences = np.subtract(second, first, dtype=np.float64)
    if differences.ndim != 1 or len(differences) < 2:
        raise ValueError(f"a comparison takes two folds or more of both, found {len(first)} and {len(second)}")
    mean, sd, count = differences.mean(), differences.std(ddof=1), len(differences)
    rounding = 4 * np.finfo(np.float64).eps * np.abs([first, second]).max()
    spread = max(sd, LEAST_SPREAD * abs(mean), rounding)
    t = mean / (spread * np.sqrt(1 / count + test_share)) if spread else 0.0  # all scores are 0
    effect = float(mean / sd) if sd > rounding else None
    return Paired(float(mean), float(sd), effect, float(2 * stats.t.sf(abs(t), count - 1)), count)


def holm(p_values: Sequence[float] | np.ndarray) -> list[float]:
    """p values corrected for being many (Holm 1979): the chance of even one false finding stays below the level.

    The smallest counts as many times as there are values, the next once less, none less than the one before it.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected.tolist()


def compare(first: Mapping, second: Mapping) -> dict[str, tuple[str, Paired]]:
    """For each task that both have: the metric by which it is compared, and the comparison.

    Args:
        first: an experiment's metrics.json.
        second: another's.

    Raises:
        TrainingError: they were not tested on the same folds, or share no task.
    """
    if first["folds"]["hash"] != second["folds"]["hash"]:
        raise TrainingError(
            f"{first['experiment']} and {second['experiment']} were not tested on the same folds: they differ in their "
            f"utterances or in `folds`, so their scores cannot be paired"
        )
    sizes = first["folds"]["sizes"]
    test_share = float(np.mean([fold["test"] / fold["train"] for fold in sizes]))
    found = {}
    for task in first["tasks"]:
        metric = first["primary"][task]
        truths = [metrics.get("truth", {}).get(task) for metrics in (first, second)]
        if second["primary"].get(task) != metric or truths[0] != truths[1]:  # another question, or other answers to it
            continue
        sides = [_by_fold(metrics["tasks"][task][metric]["folds"], len(sizes)) for metrics in (first, second)]
        both = ~np.isnan(sides).any(axis=0)
        if both.sum() > 1:
            found[task] = (metric, paired(*(side[both] for side in sides), test_share))
    if not found:
        names = f"{first['experiment']} and {second['experiment']}"
        raise TrainingError(f"{names} share no task on the same labels, with scores in two folds or more")
    return found


def _by_fold(scores: Sequence[float | None], num_folds: int) -> np.ndarray:
    """The mean over the seeds of each fold's scores, which are listed seed by seed; NaN where a fold has none."""
    return np.array([np.nan if s is None else s for s in scores], dtype=np.float64).reshape(-1, num_folds).mean(axis=0)
