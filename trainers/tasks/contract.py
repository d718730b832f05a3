"""What a kind of task is: how its labels become numbers, and a head's outputs answers and scores.

Knows neither the task's name nor the manifest. What takes PyTorch, pandas or scikit-learn imports it when it is called:
what a task may be is checked without them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


class Kind(ABC):
    """One kind of task; stateless, shared by all tasks of the kind."""

    name: ClassVar[str]
    """In params.yaml."""
    losses: ClassVar[tuple[str, ...]]
    """Losses that it can be trained by (`tasks.losses`), the default first."""
    metrics: ClassVar[tuple[str, ...]]
    """Names of its scores, the default first."""
    unlabelled: ClassVar[float]
    """What stands among its targets where a label is missing."""
    most_classes: ClassVar[float]
    """Classes that there may be; 0 where an answer is no name with a probability, but a number in the label's unit."""

    @property
    def has_classes(self) -> bool:
        """Whether an answer is one of several names."""
        return self.most_classes > 0

    @abstractmethod
    def read(self, labels: "pd.Series") -> tuple[np.ndarray, tuple[str, ...]]:
        """Labels as targets [utterances], `unlabelled` where null; and the names of the classes, sorted.

        Raises:
            ValueError: a label that cannot be one, or too few distinct ones to learn from; the message goes on from
                "task …: label …".
        """

    @abstractmethod
    def known(self, targets: np.ndarray) -> np.ndarray:
        """Where there is a label, bool [utterances]."""

    @abstractmethod
    def num_outputs(self, classes: Sequence[str]) -> int:
        """Numbers that a head gives."""

    def scaled(self, targets: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Targets as a loss takes them, and how to get back: (outputs · scale + mean) is in the label's unit.

        Args:
            targets: [utterances].
            train: numbers of the training utterances, which alone may decide.
        """
        return targets, 0.0, 1.0

    @abstractmethod
    def names(self, targets: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """Targets as they stand in tables: names of classes, None where there is none; or the numbers themselves."""

    @abstractmethod
    def numbers(self, names: "pd.Series", classes: Sequence[str]) -> np.ndarray:
        """Inverse of `names`, for known labels."""

    @abstractmethod
    def predictions(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What a head's outputs [rows, outputs] say: targets [rows]; and probabilities float32 [rows, classes]."""

    @abstractmethod
    def scores(self, true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
        """Every one of `metrics` of at least one answer; accuracies are fractions, errors in the label's unit."""

    def comparable(self, primary: str) -> str:
        """The metric, between −1 and 1 and better the higher, by which tasks of unlike kinds can be averaged."""
        return primary

    @abstractmethod
    def guess(self, train: np.ndarray) -> float:
        """The one target that knows nothing but the training labels, at least one."""

    def chance(self, train: np.ndarray, test: np.ndarray, metric: str) -> float:
        """What a metric says of always answering `guess`."""
        return self.scores(test, np.full(len(test), self.guess(train)))[metric]
