"""What a model says of one file, and how it is printed: a row of a table, or a JSON object on a line of its own.

Every line is printed the moment it is known, so a table's widths follow from the model's classes and not from its rows.
Knows neither audio nor models.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from strata.pipeline.show.tables import number
from strata.pipeline.study.failures import Failure
from strata.trainers.inputs.data import Targets

MOST_FILE_WIDTH = 40
"""Characters of a file's name in a table; of a longer one the end is shown."""
_NUMBER_WIDTH = 10


@dataclass(frozen=True)
class Prediction:
    """One task's."""

    value: str | float
    """Name of a class, or a value."""
    probabilities: Mapping[str, float] | None
    """By class; None for values."""

    def as_json(self) -> dict[str, object]:
        """Its fields by name, with the probability of its own class."""
        if self.probabilities is None:
            return {"answer": self.value}
        probability = self.probabilities[self.value]
        return {"answer": self.value, "probability": probability, "probabilities": dict(self.probabilities)}

    def as_text(self) -> str:
        """`s01 (93 %)`, or a value with two decimals."""
        if self.probabilities is None:
            return number(self.value)
        return f"{self.value} ({self.probabilities[self.value]:.0%})".replace("%", " %")


@dataclass(frozen=True)
class FilePrediction:
    """All of one file's."""

    duration_s: float
    tasks: Mapping[str, Prediction]


def single(target: Targets, predicted: np.ndarray, probabilities: np.ndarray | None, row: int) -> Prediction:
    """The prediction in one row of what a predictor gives for a task."""
    if probabilities is None:
        return Prediction(float(predicted[row]), None)  # all its digits: a time in seconds since 1970 has ten
    return Prediction(str(predicted[row]), dict(zip(target.classes, map(_plain, probabilities[row]), strict=True)))


def _plain(value: np.float32) -> float:
    """The same number with no more digits than it has: 0.93 and not 0.9300000071525574."""
    return float(str(np.float32(value)))


class Lines:
    """JSON, one object per line and file."""

    def print(self, file: str, outcome: FilePrediction | Failure) -> None:
        """One file's line."""
        if isinstance(outcome, Failure):
            content = {"file": file, "error": outcome.reason}
        else:
            tasks = {name: one.as_json() for name, one in outcome.tasks.items()}
            content = {"file": file, "duration_s": round(outcome.duration_s, 3), "tasks": tasks}
        print(json.dumps(content), flush=True)  # ASCII: names of files need not be text


class Table:
    """Aligned columns: the file and every task."""

    def __init__(self, targets: Mapping[str, Targets], files: Sequence[str] | None):
        """Prints the heading.

        Args:
            targets: the tasks, with the names of their classes.
            files: all there will be; None where nobody knows.
        """
        lengths = [MOST_FILE_WIDTH] if files is None else [len("file"), *map(len, files)]
        self._file_width = min(max(lengths), MOST_FILE_WIDTH)
        longest = {name: max(map(len, target.classes), default=0) for name, target in targets.items()}
        self._is_number = [not target.classes for target in targets.values()]
        self._widths = [
            max(len(name), _NUMBER_WIDTH if is_number else length + len(" (100 %)"))
            for (name, length), is_number in zip(longest.items(), self._is_number, strict=True)
        ]
        print(self._line("file", list(targets)))
        print("─" * (self._file_width + sum(self._widths) + 2 * len(self._widths)), flush=True)

    def print(self, file: str, outcome: FilePrediction | Failure) -> None:
        """One file's row; where there are no predictions, the reason stands in their place."""
        cells = [one.as_text() for one in outcome.tasks.values()] if isinstance(outcome, FilePrediction) else None
        shown = "".join(letter if letter.isprintable() else "�" for letter in file)
        if len(shown) > self._file_width:
            shown = "…" + shown[len(shown) - self._file_width + 1 :]
        reason = "" if cells else f"{shown.ljust(self._file_width)}  {outcome.reason}"
        print(self._line(shown, cells) if cells else reason, flush=True)

    def _line(self, file: str, cells: Sequence[str]) -> str:
        columns = zip(cells, self._widths, self._is_number, strict=True)
        aligned = (cell.rjust(width) if is_number else cell.ljust(width) for cell, width, is_number in columns)
        return "  ".join([file.ljust(self._file_width), *aligned]).rstrip()
