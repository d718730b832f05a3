"""Portions are decoded ahead of those that are computed, one and no more."""

from strata.pipeline.extraction.decoding import ahead


def test_no_more_than_two_portions_are_held(monkeypatch):
    """The next one is decoded while one is computed, and no further."""
    taken = []

    def portions():
        for number in range(5):
            taken.append(number)
            yield [number, number]

    for count, (portion, outcomes) in enumerate(ahead(portions(), lambda number: -number), start=1):
        assert outcomes == [-number for number in portion]
        assert len(taken) == min(count + 1, 5)
