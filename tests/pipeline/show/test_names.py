"""How names are put before people."""

import pytest

from strata.pipeline.show import names


@pytest.mark.parametrize(
    ("kept", "written"),
    [
        (range(25), "0–24"),
        ([*range(15), 17], "0–14, 17"),
        ([3, 4, 9], "3, 4, 9"),
        ([24], "24"),
        ([0, 2, 4], "0, 2, 4"),
        (["last_hidden_state", 10, 9, 8], "8–10, last_hidden_state"),
        (["mfcc"], "mfcc"),
    ],
)
def test_kept_layers_are_written_as_ranges(kept, written):
    """In the model's order, whatever the order they come in."""
    assert names.layer_ranges([str(i) for i in reversed(kept)]) == written


def test_classes_sort_as_people_count():
    """Speaker 9 comes before speaker 10, and names that begin with a number can be told from those that do not."""
    listed = ["speaker 10", "speaker 9", "7", "b", "10"]
    assert sorted(listed, key=names.natural_order) == ["7", "10", "b", "speaker 9", "speaker 10"]


def test_a_long_name_keeps_the_end_that_tells_it_apart():
    """Speakers of one corpus share how their names begin."""
    assert names.short("a speaker with a long name 27") == "a speake…name 27"
    assert len(names.short("x" * 99, 9)) == 9
    assert names.short(" two\nlines ") == "two lines"
