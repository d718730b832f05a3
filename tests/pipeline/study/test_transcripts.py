"""Which texts are doubted: those that loop, and those that nobody can say so fast."""

import numpy as np
import pytest

from strata.pipeline.study.transcripts import doubt
from tests.pipeline.texts import LOOPS, SPEECH


@pytest.mark.parametrize("text", LOOPS)
def test_a_text_that_loops_is_doubted(text):
    """However long the recording, and also where the loop is a small part of the whole."""
    assert "repeats itself" in doubt(text, 60.0)
    assert "repeats itself" in doubt(" ".join([*SPEECH, text, *SPEECH]), 600.0)


@pytest.mark.parametrize("text", SPEECH)
def test_what_people_say_is_not_doubted(text):
    """As fast as it can be said; long texts shrink further than short ones and are no more doubtful."""
    assert doubt(text, len(text) / 25) is None
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 5)) for _ in range(40)]
    long = " ".join(rng.choice(words, 4000))
    assert doubt(long, len(long) / 15) is None


def test_a_text_that_nobody_can_say_so_fast_is_doubted():
    """Less than a second counts as one: the ends of very short recordings are often cut."""
    assert "108 characters a second, more than 30" in doubt(SPEECH[0], 0.4)
    assert doubt(SPEECH[0], 4.0) is None
    assert doubt("thank you", 0.1) is None
