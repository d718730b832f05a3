"""Windowing loses no frame, repeats none, and leaves no tiny rest."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.extractors.windows import FrameGrid, plan

WAV2VEC2 = FrameGrid.of_convolutions([10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2])


def frame_wise(waveform, grid):
    """A model whose frames depend on their own samples alone, so that windowing must be exact."""
    starts = np.arange(grid.num_frames(len(waveform))) * grid.stride
    return np.array([waveform[start : start + grid.receptive_field].sum() for start in starts])


@given(
    num_samples=st.integers(7, 3_000),
    stride=st.integers(1, 13),
    receptive_field=st.integers(1, 29),
    window=st.integers(60, 700),
    overlap=st.integers(0, 30),
)
def test_windows_yield_what_the_whole_yields(num_samples, stride, receptive_field, window, overlap):
    """Over a frame-wise model, the windows' frames put together are the frames of the whole, bit for bit."""
    grid = FrameGrid(stride, receptive_field)
    if grid.num_frames(num_samples) == 0 or grid.num_frames(window) <= -(-overlap // stride):
        return
    waveform = np.random.default_rng(num_samples).integers(-1_000, 1_000, num_samples)
    pieces = [
        frame_wise(waveform[piece.start : piece.stop], grid)[piece.first : piece.last]
        for piece in plan(num_samples, grid, window, overlap)
    ]
    np.testing.assert_array_equal(np.concatenate(pieces), frame_wise(waveform, grid))


@given(seconds=st.floats(61, 4_000))
def test_windows_are_of_a_kind(seconds):
    """No window is longer than asked for by more than a frame, none is shorter than a third of that, all reach the
    overlap, and each frame has half of it as context on either side."""
    num_samples, window, overlap = round(seconds * 16_000), 960_000, 64_000
    pieces = plan(num_samples, WAV2VEC2, window, overlap)
    assert pieces[0].start == 0
    assert pieces[-1].stop == num_samples
    for piece in pieces:
        assert window / 3 < piece.stop - piece.start < window + WAV2VEC2.stride
    for left, right in pairwise(pieces):
        assert left.stop - right.start >= overlap
        assert right.start % WAV2VEC2.stride == 0
        assert right.first * WAV2VEC2.stride >= overlap / 2
        taken_until = left.start + left.last * WAV2VEC2.stride
        assert taken_until == right.start + right.first * WAV2VEC2.stride
        assert left.stop - taken_until >= overlap / 2 - WAV2VEC2.stride


def test_worked_by_hand():
    """Ten frames in windows of at most six that share two: two windows, changing over in the middle of the shared."""
    grid = FrameGrid(stride=10, receptive_field=10)
    windows = [(w.start, w.stop, w.first, w.last) for w in plan(103, grid, window=60, overlap=20)]
    assert windows == [(0, 60, 0, 5), (40, 103, 1, 6)]


def test_grid_of_wav2vec2():
    """The published front end: 25 ms make a frame, and there is one every 20 ms."""
    assert FrameGrid(stride=320, receptive_field=400) == WAV2VEC2
    assert [WAV2VEC2.num_frames(n) for n in (399, 400, 719, 720, 16_000)] == [0, 1, 1, 2, 49]


def test_what_cannot_be_planned():
    """Audio without a frame, and windows that would not advance, are refused."""
    with pytest.raises(ValueError, match="399 samples make no frame; at least 400 do"):
        plan(399, WAV2VEC2, 16_000, 0)
    with pytest.raises(ValueError, match="must be longer than the overlap"):
        plan(160_000, WAV2VEC2, 16_000, 16_000)
