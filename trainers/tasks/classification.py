"""Which of several classes: a logit per class, softmax, cross-entropy."""

from collections.abc import Sequence

import numpy as np

from strata.trainers.tasks.contract import Kind

BLOCK_ROWS = 1024
"""Utterances whose probabilities are computed at a time."""


class Classification(Kind):
    """Targets are class numbers, −1 where unlabelled; class names are text (`class_name`)."""

    name = "classification"
    losses = ("cross_entropy",)
    metrics = ("accuracy", "uar", "f1")
    unlabelled = -1
    most_classes = float("inf")

    def read(self, labels):
        """See `Kind.read`: int64."""
        import pandas as pd

        text = labels.to_numpy(dtype=object)
        if pd.api.types.infer_dtype(text, skipna=True) != "string":
            text = labels.map(class_name, na_action="ignore").to_numpy(dtype=object)
        numbers, names = pd.factorize(text)
        classes = tuple(sorted(names))
        if not 2 <= len(classes) <= self.most_classes:
            wanted = "exactly two classes" if self.most_classes == 2 else "two classes or more"
            raise ValueError(f"needs {wanted}, found {len(classes)}: {', '.join(classes[:5])}")
        place = {name: number for number, name in enumerate(classes)}
        # The last is what −1, a label that is missing, becomes.
        return np.array([*(place[name] for name in names), self.unlabelled], np.int64)[numbers], classes

    def known(self, targets):
        """See `Kind.known`."""
        return targets >= 0

    def num_outputs(self, classes):
        """One logit per class."""
        return len(classes)

    def names(self, targets, classes):
        """See `Kind.names`."""
        return np.array([*classes, None], dtype=object)[targets]

    def numbers(self, names, classes: Sequence[str]):
        """See `Kind.numbers`."""
        return names.map({name: number for number, name in enumerate(classes)}).to_numpy(np.int64)

    def predictions(self, outputs):
        """The most probable class."""
        from scipy.special import softmax

        predicted, probabilities = np.empty(len(outputs), np.int64), np.empty(outputs.shape, np.float32)
        # Block by block: of 1,251 speakers and 75,000 utterances, each copy in float64 would be 750 MB.
        for start in range(0, len(outputs), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            predicted[part], probabilities[part] = most_probable(softmax(outputs[part].astype(np.float64), axis=1))
        return predicted, probabilities

    def scores(self, true, predicted):
        """Accuracy, uar (mean of the recalls of the classes present) and f1 (macro, over the same classes)."""
        from strata.trainers.tasks.metrics import of_classes

        return of_classes(true, predicted)

    def guess(self, train):
        """The most frequent class."""
        values, counts = np.unique(train, return_counts=True)
        return values[counts.argmax()]


def most_probable(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the most probable classes [rows], and the probabilities float32 [rows, classes]."""
    return probabilities.argmax(1), probabilities.astype(np.float32)


def class_name(value: object) -> str:
    """A label as the name of a class: whole numbers without a point, every digit kept, so that no two classes merge."""
    if isinstance(value, float | np.floating):
        return str(int(value)) if value.is_integer() else repr(float(value))
    return str(value)
