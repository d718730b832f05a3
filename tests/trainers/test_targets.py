"""Labels of a table become targets: classes in order, by names that keep every digit."""

import pandas as pd

from strata.trainers.inputs.data import targets_of
from strata.trainers.spec import Task


def test_numbers_as_class_names_keep_every_digit():
    """No two classes merge."""
    labels = pd.DataFrame({"x": [1000001.0, 1000002.0, 0.1, 20240101.0]})
    assert targets_of("x", Task(kind="classification"), labels).classes == ("0.1", "1000001", "1000002", "20240101")


def test_labels_become_sorted_classes_and_missing_ones_minus_one():
    """Numbers used as names are written as people write them."""
    found = targets_of("x", Task(kind="classification"), pd.DataFrame({"x": [2.0, None, 10.0, 2.0]}))
    assert found.classes == ("10", "2")
    assert found.values.tolist() == [1, -1, 0, 1]
    assert found.names(found.values).tolist() == ["2", None, "10", "2"]
