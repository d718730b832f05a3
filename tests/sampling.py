"""Sweeps of many cases: a seeded sample of each runs always, all of it under `--slow`.

The sample is the same in every process and on every machine, so that workers agree on what there is to run.
"""

import random
from collections.abc import Iterable, Sequence

import pytest

SWEEP = pytest.mark.parametrize(
    "keep", [pytest.param(5, id="a sample"), pytest.param(None, id="all", marks=pytest.mark.slow)]
)
"""For a test that goes through its cases in a loop: `sampled(cases, keep)` are those that it is to try."""


def sampled(cases: Iterable, keep: int | None, seed: int = 0) -> list:
    """`keep` of the cases in their order, the first and the last among them; all where `keep` is None."""
    cases = list(cases)
    if keep is None or keep >= len(cases):
        return cases
    inner = random.Random(seed).sample(range(1, len(cases) - 1), keep - 2)
    return [cases[place] for place in (0, *sorted(inner), len(cases) - 1)]


def sweep(cases: Iterable, keep: int, seed: int = 0, always: Sequence = ()) -> list:
    """The cases for `pytest.mark.parametrize`: all but `keep` of them, and those named in `always`, are marked slow."""
    cases = list(cases)
    chosen = [cases.index(case) for case in always]
    rest = [place for place in range(len(cases)) if place not in chosen]
    chosen += random.Random(seed).sample(rest, min(keep, len(rest)))
    parameters = [
        case if hasattr(case, "marks") else pytest.param(*(case if isinstance(case, tuple) else (case,)))
        for case in cases
    ]
    return [
        each if place in chosen else pytest.param(*each.values, id=each.id, marks=(*each.marks, pytest.mark.slow))
        for place, each in enumerate(parameters)
    ]
