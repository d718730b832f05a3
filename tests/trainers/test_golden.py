"""What the trainers compute is what it was: folds to the utterance, losses and scores of small trainings to 1e-4.

A result is made anew when what it follows from has changed, and the code counts by numbers that people raise
(`strata.trainers.revisions`). These tests fail where values have changed and nobody has raised one.
"""

import json
from typing import get_args

import pytest

from strata.trainers import revisions, spec
from strata.trainers.modules.fusions import section as fusions
from strata.trainers.modules.poolings import POOLINGS
from strata.trainers.tasks import KINDS
from strata.trainers.training.balancing import BALANCINGS
from tests.trainers.golden import CASES, FILE, RAISE, as_json, differences, may_replace

KNOWN = json.loads(FILE.read_text())


def parts(name: str) -> set[str]:
    """The parts that compute a case."""
    return set(revisions.of(CASES[name].section, CASES[name].tasks))


@pytest.mark.parametrize("name", CASES)
def test_values_are_what_they_were(name):
    """Else a result that was trained before would pass for one of this code."""
    found = as_json(CASES[name].outcome(0.0))
    assert not differences(KNOWN[name]["outcome"], found, name), f"{RAISE}; then see tests/trainers/golden.py"


@pytest.mark.parametrize("name", CASES)
def test_a_raised_number_goes_with_values_that_are_written_down_anew(name):
    """A number that was raised in the past says nothing of values that change today."""
    now = revisions.of(CASES[name].section, CASES[name].tasks)
    assert KNOWN[name]["revisions"] == now, f"run `python -m tests.trainers.golden '{name}'`"


def test_every_case_is_written_down():
    """And nothing that is no case any more."""
    assert list(KNOWN) == list(CASES)


def test_every_part_with_a_number_has_a_case():
    """Whoever adds a part adds a small training that tells when its values change."""
    assert set.union(*map(parts, CASES)) == set(revisions.REVISIONS)


def test_all_that_can_be_chosen_has_a_number():
    """Every encoder, pooling, fusion, loss, balancing … of params.yaml is a part."""

    def choices(section: type, field: str) -> set[str]:
        annotation = section.model_fields[field].annotation
        return {value for kind in (annotation, *get_args(annotation)) for value in get_args(kind)} - {type(None)}

    chosen = {
        "encoder": choices(spec.Experiment, "encoder"),
        "pooling": choices(spec.Experiment, "pooling") | set(POOLINGS),
        "fusion": set(fusions.KINDS),
        "task": choices(spec.Task, "kind"),
        "loss": {loss for kind in KINDS.values() for loss in kind.losses},
        "balancing": choices(spec.Optimisation, "balancing") | set(BALANCINGS),
        "batches": choices(spec.Optimisation, "batches"),
        "importance": choices(spec.Elimination, "importance"),
        "search": choices(spec.Tune, "search"),
    }
    wanted = {f"{field} {value}" for field, values in chosen.items() for value in values if isinstance(value, str)}
    assert wanted == {part for part in revisions.REVISIONS if part.split()[0] in chosen}


def test_what_is_written_down_is_compared_to_the_last_number():
    """A number that is off by more than the tolerance, another word, a key that is gone; and nothing that is new."""
    wanted = {"folds": ["vT"], "scores": {"age": {"rmse": [11.3, None]}}}
    assert not differences(wanted, {"new": 0} | wanted)
    assert not differences(wanted, {"folds": ["vT"], "scores": {"age": {"rmse": [11.3 + 1e-4, None]}}})
    assert len(differences(wanted, {"folds": ["Tv"], "scores": {"age": {"rmse": [11.3 + 2e-3, 0.0]}}})) == 3
    assert differences(wanted, {"folds": ["vT"], "scores": {}}, "case") == ["case scores: age is gone"]


def test_other_values_are_written_down_once_a_number_is_raised():
    """Not before, and not for a number that is lower, or that has only come along."""
    before = {"revisions": {"training": 1, "plda": 2}, "outcome": {"eer": 0.25}}
    assert may_replace(before, before)
    assert not may_replace(before, {"revisions": {"training": 1, "plda": 2}, "outcome": {"eer": 0.26}})
    assert not may_replace(before, {"revisions": {"training": 1, "plda": 1}, "outcome": {"eer": 0.26}})
    assert may_replace(before, {"revisions": {"training": 1, "plda": 3}, "outcome": {"eer": 0.26}})
