"""Scores of predictions, by the field's names; the arithmetic is scikit-learn's and audmetric's.

Accuracies, recalls and error rates are fractions; errors are in the label's unit. Which of them a task is compared by
is said by `spec.Task.primary`.
"""

import audmetric
import numpy as np
from jaxtyping import Bool, Float
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    recall_score,
    root_mean_squared_error,
)
from strata.trainers.spec import Task

TARGET_PRIOR = 0.01
"""Of the minimum detection cost: one trial in a hundred is of one speaker, as in NIST's evaluations and VoxCeleb's."""


def scores(kind: str, true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """All metrics of one task.

    Args:
        kind: the task's kind.
        true: class numbers or values [utterances], at least one.
        predicted: the same.

    Returns:
        accuracy, uar (mean of the recalls of the classes present) and f1 (macro, over the same classes); or rmse, mae,
        r2 and ccc. Of fewer than two utterances, or of a constant label, R² and CCC are 0 unless the prediction is
        exact, and then 1; so is the CCC of a constant prediction.
    """
    if kind == "regression":
        true, predicted = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
        exact = bool(np.array_equal(true, predicted))
        return {
            "rmse": float(root_mean_squared_error(true, predicted)),
            "mae": float(mean_absolute_error(true, predicted)),
            "r2": float(r2_score(true, predicted)) if len(true) > 1 else float(exact),
            # It does not change with the origin, near which no digit is lost: values may be seconds since 1970.
            "ccc": 1.0 if exact else _concordance(true - true[0], predicted - true[0]),
        }
    present = np.unique(true)
    averaged = {"labels": present, "average": "macro", "zero_division": 0}
    return {
        "accuracy": float(accuracy_score(true, predicted)),
        "uar": float(recall_score(true, predicted, **averaged)),
        "f1": float(f1_score(true, predicted, **averaged)),
    }


def score(task: Task, true: np.ndarray, predicted: np.ndarray) -> float:
    """One number between −1 and 1, higher is better, by which tasks of different kinds can be averaged.

    Of classes the task's own metric; of values their concordance, since errors have units and one bad R² would outweigh
    all other tasks.
    """
    return scores(task.kind, true, predicted)["ccc" if task.kind == "regression" else task.primary]


def chance(kind: str, train: np.ndarray, test: np.ndarray, metric: str) -> float:
    """What a metric says of always answering the most frequent training class, or the training mean."""
    if kind == "regression":
        answer = train.mean()
    else:
        values, counts = np.unique(train, return_counts=True)
        answer = values[counts.argmax()]
    return scores(kind, test, np.full(len(test), answer))[metric]


def summary(values: list[float | None]) -> dict[str, object]:
    """Mean and standard deviation over folds; a fold without a labelled utterance is None and not counted.

    A single value has no standard deviation: None.
    """
    known = [value for value in values if value is not None]
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return {"mean": float(np.mean(known)) if known else None, "sd": sd, "folds": values}


def equal_error_rate(targets: Bool[np.ndarray, " trials"], scores: Float[np.ndarray, " trials"]) -> float:
    """The error rate at the threshold where as many targets are missed as non-targets pass.

    Between two thresholds that the scores can tell apart both rates are taken to change linearly, which a decision by
    lot between them reaches; equal scores are one threshold. (audmetric's definition differs: the middle between the
    two rates at one of the thresholds, which of few trials is another number.)

    Raises:
        ValueError: no target, no non-target, or a score that is not a number.
    """
    passed, missed = _error_rates(targets, scores)
    ahead = missed - passed  # falls from 1 to -1 without a halt
    after = int(np.argmax(ahead <= 0))
    before = after - 1
    share = ahead[before] / (ahead[before] - ahead[after])
    return float(passed[before] + share * (passed[after] - passed[before]))


def min_dcf(
    targets: Bool[np.ndarray, " trials"], scores: Float[np.ndarray, " trials"], prior: float = TARGET_PRIOR
) -> float:
    """Minimum over the thresholds of the detection cost, misses and false alarms costing the same.

    In units of what it costs to answer every trial alike (NIST SRE 2010): 1 is no better than that.

    Args:
        targets: whether a trial's utterances are of one speaker.
        scores: higher where they seem to be.
        prior: share of targets that is reckoned with, whatever it is among these trials.

    Raises:
        ValueError: as for `equal_error_rate`.
    """
    passed, missed = _error_rates(targets, scores)
    return float((prior * missed + (1 - prior) * passed).min() / min(prior, 1 - prior))


def _error_rates(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of non-targets that pass and share of targets that are missed, at every threshold from the highest down."""
    if targets.all() or not targets.any() or not np.isfinite(scores).all():
        raise ValueError(
            f"expected targets and non-targets with finite scores, found {int(targets.sum())} targets among "
            f"{len(targets)} trials, {int((~np.isfinite(scores)).sum())} scores not finite"
        )
    order = np.argsort(-scores, kind="stable")
    hits, ends = np.cumsum(targets[order]), np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)
    hits, count = np.append(0, hits[ends]), np.append(0, ends + 1)
    return (count - hits) / (count[-1] - hits[-1]), 1 - hits / hits[-1]


def _concordance(true: np.ndarray, predicted: np.ndarray) -> float:
    """Lin's concordance correlation coefficient; 0 where neither side varies."""
    found = audmetric.concordance_cc(true, predicted)
    return 0.0 if np.isnan(found) else found
