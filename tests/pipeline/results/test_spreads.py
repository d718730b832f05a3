"""Which scores a spread is over."""

import pytest

from strata.pipeline.results import spreads
from tests.pipeline.results.made import made


def test_seeds_are_told_apart_in_the_order_of_the_list():
    """Worked by hand: two seeds of three folds, a fold without a score left out."""
    first = made("a", 0.8)
    result = spreads.replace(first, seeds=(7, 8))
    assert spreads.per_repeat(result, {"folds": [0.1, 0.2, 0.3, 0.5, None, 0.7]}) == pytest.approx([0.2, 0.6])
    assert spreads.per_repeat(spreads.replace(first, seeds=(7,)), {"folds": [0.1, None, 0.3]}) == [0.1, 0.3]
