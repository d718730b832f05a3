"""Scores of predictions, by the field's names; the arithmetic is scikit-learn's and audmetric's.

Accuracies and recalls are fractions; errors are in the label's unit. Which of them a task is compared by
is said by `spec.Task.primary`.
"""

import audmetric
import numpy as np
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    recall_score,
    root_mean_squared_error,
)


def of_classes(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, and mean recall (uar) and F1 over the classes present among the true ones.

    Args:
        true: class numbers [utterances], at least one.
        predicted: the same.
    """
    present = np.unique(true)
    averaged = {"labels": present, "average": "macro", "zero_division": 0}
    return {
        "accuracy": float(accuracy_score(true, predicted)),
        "uar": float(recall_score(true, predicted, **averaged)),
        "f1": float(f1_score(true, predicted, **averaged)),
    }


def of_numbers(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Errors, R² and concordance; see `Regression.scores` for where the last two are not defined.

    Args:
        true: values [utterances], at least one.
        predicted: the same.
    """
    true, predicted = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    exact = bool(np.array_equal(true, predicted))
    return {
        "rmse": float(root_mean_squared_error(true, predicted)),
        "mae": float(mean_absolute_error(true, predicted)),
        "r2": float(r2_score(true, predicted)) if len(true) > 1 else float(exact),
        # It does not change with the origin, near which no digit is lost: values may be seconds since 1970.
        "ccc": 1.0 if exact else _concordance(true - true[0], predicted - true[0]),
    }


def summary(values: list[float | None]) -> dict[str, object]:
    """Mean and standard deviation over folds; a fold without a labelled utterance is None and not counted.

    A single value has no standard deviation: None.
    """
    known = [value for value in values if value is not None]
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return {"mean": float(np.mean(known)) if known else None, "sd": sd, "folds": values}


def _concordance(true: np.ndarray, predicted: np.ndarray) -> float:
    """Lin's concordance correlation coefficient; 0 where neither side varies."""
    found = audmetric.concordance_cc(true, predicted)
    return 0.0 if np.isnan(found) else found
