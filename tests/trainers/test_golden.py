"""What the trainers compute is what it was: folds to the utterance, losses and scores of small trainings to 1e-4.

A result of an experiment is made anew when what it follows from has changed, and the code counts by numbers that people
raise. These tests fail where values have changed and nobody has raised one.
"""

import json

import pytest

from tests.trainers.golden import CASES, FILE, as_json, differences

KNOWN = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", CASES)
def test_values_are_what_they_were(name):
    """Else a result that was trained before would pass for one of this code."""
    assert not differences(KNOWN[name], as_json(CASES[name].outcome(0.0)), name)


def test_every_case_is_written_down():
    """And nothing that is no case any more."""
    assert list(KNOWN) == list(CASES)


def test_what_is_written_down_is_compared_to_the_last_number():
    """A number that is off by more than the tolerance, another word, a key that is gone; and nothing that is new."""
    wanted = {"folds": ["vT"], "scores": {"age": {"rmse": [11.3, None]}}}
    assert not differences(wanted, {"new": 0} | wanted)
    assert not differences(wanted, {"folds": ["vT"], "scores": {"age": {"rmse": [11.3 + 1e-4, None]}}})
    assert len(differences(wanted, {"folds": ["Tv"], "scores": {"age": {"rmse": [11.3 + 2e-3, 0.0]}}})) == 3
    assert differences(wanted, {"folds": ["vT"], "scores": {}}, "case") == ["case scores: age is gone"]
