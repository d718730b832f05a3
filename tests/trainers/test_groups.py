"""What shares audio is never separated: segments of one recording."""

import numpy as np
import pandas as pd
import pytest

from strata.trainers.folds import cross_validation
from strata.trainers.inputs.data import Segments, TrainingError
from strata.trainers.spec import Folds


def slid(num_files: int, each: int, step_s: float) -> tuple[pd.DataFrame, list[str], Segments]:
    """Windows of a second over some recordings, each utterance of another content."""
    rows = [(file, step_s * number) for file in range(num_files) for number in range(each)]
    labels = pd.DataFrame({"speaker": [f"s{file % 3}" for file, _ in rows]})
    start = np.array([start for _, start in rows])
    return labels, [f"{f} {s}" for f, s in rows], Segments([f"r{file}" for file, _ in rows], start, start + 1.0)


@pytest.mark.parametrize("how", [Folds(k=3, stratify="speaker"), Folds(k=3, validation=0.3), Folds(given="split")])
def test_segments_that_overlap_stay_on_one_side(how):
    """Windows that slide over a recording hang together in a chain, whether or not the corpus divides them."""
    labels, contents, segments = slid(12, 20, 0.01)
    labels = labels.assign(split=None)
    for fold in cross_validation(labels, contents, how, segments=segments):
        files = [{segments.recordings[row] for row in rows} for rows in (fold.train, fold.valid, fold.test)]
        assert sum(map(len, files)) == 12
        assert sum(map(len, (fold.train, fold.valid, fold.test))) == 240


@pytest.mark.parametrize("step_s", [1.0, 1.0 - 1e-9, 1.5])
def test_segments_that_do_not_overlap_may_be_divided(step_s):
    """One after the other they share nothing; `disjoint: audio` keeps recordings apart."""
    labels, contents, segments = slid(5, 12, step_s)
    (first, *_) = cross_validation(labels, contents, Folds(), segments=segments)
    assert len({segments.recordings[row] for row in first.test}) > 1
    assert len(first.test) == 12
    for fold in cross_validation(labels, contents, Folds(disjoint="audio"), segments=segments):
        assert len({segments.recordings[row] for row in fold.test}) == 1


def test_a_whole_recording_holds_all_of_its_segments():
    """Whatever order the rows have; what begins where another ends is apart."""
    segments = Segments(list("aabbaa"), np.array([0, 3, 0, 2, 1, 4.0]), np.array([2, 4, 2, 5, 3, 9.0]))
    assert len(np.unique(segments.overlaps())) == 5
    assert segments.overlaps()[0] == segments.overlaps()[4]
    whole = Segments([*"aabbaa", "a"], np.append(segments.start_s, 0), np.append(segments.end_s, 10))
    assert len(np.unique(whole.overlaps())) == 3


def test_one_recording_cannot_be_divided():
    """The message says why so many utterances are so few."""
    labels, contents, segments = slid(1, 20, 0.01)
    with pytest.raises(TrainingError, match="1 utterance, counting what shares audio as one, cannot be divided into 3"):
        cross_validation(labels, contents, Folds(k=3), segments=segments)
    with pytest.raises(TrainingError, match="1 recording cannot be divided into 3 parts"):
        cross_validation(labels, contents, Folds(k=3, disjoint="audio"), segments=segments)
