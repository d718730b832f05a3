"""Which of two classes: one logit, that of the second, against an implicit zero."""

import numpy as np

from strata.trainers.tasks.classification import Classification, most_probable


class Binary(Classification):
    """A classification in exactly two classes, by one output."""

    name = "binary"
    losses = ("bce", "cross_entropy")
    most_classes = 2

    def num_outputs(self, classes):
        """One, whatever their names."""
        return 1

    def predictions(self, outputs):
        """The more probable class."""
        from scipy.special import expit

        second = expit(outputs[:, 0].astype(np.float64))
        return most_probable(np.stack([1 - second, second], axis=1))
