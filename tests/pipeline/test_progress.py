"""How much has been done, and how fast, as it is told."""

from strata.pipeline.progress import amount, speed


def test_short_runs_have_a_speed():
    """Not "0.00 h of audio" at "0 h of audio per hour"."""
    assert (amount(1.5), amount(36), amount(7200)) == ("1.5 s of audio", "0.01 h of audio", "2.00 h of audio")
    assert speed(1.0, 20.0) == "0.05 h of audio per hour"
    assert speed(60.0, 20.0) == "3 h of audio per hour"
    assert speed(3600.0, 3.0) == "1200 h of audio per hour"
