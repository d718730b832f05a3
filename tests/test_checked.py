"""Annotations are checked in every test run: a sample of the calls where checking costs much."""

import jaxtyping
import numpy as np
import pytest
from jaxtyping import Float

from tests import checked


def test_axes_are_checked_at_the_first_calls_and_at_some_of_those_later():
    """Nothing wrong passes every time; what is right always does."""

    @jaxtyping.jaxtyped(typechecker=checked.shapes)
    def double(values: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows dim"]:
        return 2 * values

    later, refused = 5 * checked.EVERY, []
    for number in range(checked.FIRST + later):
        try:
            double(np.ones(3))
        except jaxtyping.TypeCheckError:
            refused.append(number)
    assert refused[: checked.FIRST] == list(range(checked.FIRST))
    assert len(refused) == checked.FIRST + 5
    assert (double(np.ones((2, 3))) == 2).all()


def test_the_trainers_and_the_store_are_checked_by_all_of_their_annotations():
    """Also where none of them tells axes."""
    from strata.trainers.suggestion import nearest

    with pytest.raises(Exception, match="violates type hint"):
        nearest(7, ["a"])
