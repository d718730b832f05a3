"""Scores of predictions, by the field's names; the arithmetic is scikit-learn's.

Accuracies and recalls are fractions; errors are in the label's unit.
"""

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    recall_score,
    root_mean_squared_error,
)

PRIMARY = {"classification": "accuracy", "binary": "accuracy", "regression": "rmse"}
"""The metric by which a kind of task is compared."""


def scores(kind: str, true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """All metrics of one task.

    Args:
        kind: the task's kind.
        true: class numbers or values [utterances], at least one.
        predicted: the same.

    Returns:
        accuracy, uar (mean of the recalls of the classes present) and f1 (macro, over the same classes); or rmse, mae
        and r2. R² of fewer than two utterances, or of a constant label, is 0 unless the prediction is exact.
    """
    if kind == "regression":
        exact = bool(np.array_equal(true, predicted))
        return {
            "rmse": float(root_mean_squared_error(true, predicted)),
            "mae": float(mean_absolute_error(true, predicted)),
            "r2": float(r2_score(true, predicted)) if len(true) > 1 else float(exact),
        }
    present = np.unique(true)
    averaged = {"labels": present, "average": "macro", "zero_division": 0}
    return {
        "accuracy": float(accuracy_score(true, predicted)),
        "uar": float(recall_score(true, predicted, **averaged)),
        "f1": float(f1_score(true, predicted, **averaged)),
    }


def score(kind: str, true: np.ndarray, predicted: np.ndarray) -> float:
    """One number, higher is better, at most 1, by which tasks of different kinds can be averaged: accuracy or R²."""
    return scores(kind, true, predicted)["r2" if kind == "regression" else "accuracy"]


def chance(kind: str, train: np.ndarray, test: np.ndarray) -> float:
    """The primary metric of always answering the most frequent training class, or the training mean."""
    if kind == "regression":
        return scores(kind, test, np.full(len(test), train.mean()))["rmse"]
    values, counts = np.unique(train, return_counts=True)
    return scores(kind, test, np.full(len(test), values[counts.argmax()]))["accuracy"]


def summary(values: list[float | None]) -> dict[str, object]:
    """Mean and standard deviation over folds; a fold without a labelled utterance is None and not counted."""
    known = [value for value in values if value is not None]
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    return {"mean": float(np.mean(known)) if known else None, "sd": sd, "folds": values}
