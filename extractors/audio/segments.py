"""Segments and channels of an opened file: which frames they are, and those frames. Judges no sound."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from strata.extractors.audio.sound import Sound, cut_off, is_clearly_less, opened
from strata.extractors.contract import UnusableAudio

Channel: TypeAlias = Literal["left", "right"] | int | None
"""One channel of a file, `left` being 0 and `right` 1; None: the mean of all."""
Segment: TypeAlias = tuple[float, float | None]
"""Start and duration in seconds; None: to the end of the file."""
BLOCK_FRAMES = 1 << 16
"""Frames decoded at a time; memory does not grow with the file."""
_LONGEST_S = 1e9  # thirty years: what is beyond is a slip and need not be counted in frames
_SIDES = {"left": 0, "right": 1}


def bounds(sound: Sound, start_s: float, duration_s: float | None) -> tuple[int, int | None]:
    """First frame of the segment and number of its frames, in the file's own rate; None: to the end of the file.

    Raises:
        UnusableAudio: there is no such segment, as far as that is known before the file is decoded.
    """
    rate = sound.sampling_rate
    first = _frames(sound, start_s, "start")
    count = None if duration_s is None else _frames(sound, duration_s, "duration")
    if sound.frames is not None:
        _check_segment(first, count, sound.frames, rate)
        count = sound.frames - first if count is None else min(count, sound.frames - first)
    return first, count


def _frames(sound: Sound, seconds: float, what: str) -> int:
    rate = sound.sampling_rate
    if not -_LONGEST_S < seconds < _LONGEST_S or round(seconds * rate) < 0:  # NaN is not in between either
        raise UnusableAudio(f"no such segment: its {what} is {seconds:g} s")
    return round(seconds * rate)


def _check_segment(first: int, count: int | None, frames: int, rate: int) -> None:
    last = frames if count is None else first + count
    # Corpora give times to a few decimals, so a segment may end a few milliseconds past its file.
    if last > frames + rate // 100 or first > frames:
        raise UnusableAudio(
            f"segment beyond the file: {first / rate:.2f} to {last / rate:.2f} s of {frames / rate:.2f} s"
        )


def checked_blocks(sound: Sound, first: int, count: int | None) -> Iterator[np.ndarray]:
    """The frames of a segment; where fewer come, because the file ends, that is held against what was promised.

    Raises:
        UnusableAudio: the decoder cannot go on, the file is a cut copy, or it does not reach the segment.
    """
    decoded, rate = 0, sound.sampling_rate
    for block in sound.blocks(first, count, BLOCK_FRAMES):
        decoded += len(block)
        yield block
    if count is not None and decoded == count:
        return
    end = first + decoded if decoded or not first else _end(sound)
    if sound.promised is not None and is_clearly_less(end, sound.promised, rate):
        raise cut_off(end / rate, sound.promised / rate)
    if sound.frames is None:
        _check_segment(first, count, end, rate)


def _end(sound: Sound) -> int:
    """Number of frames, by decoding all of them."""
    with opened(sound.path) as anew:
        return sum(len(block) for block in anew.blocks(0, None, BLOCK_FRAMES))


def is_whole(sound: Sound, start_s: float, duration_s: float | None) -> bool:
    """Whether a segment comes to all of the file's frames.

    Raises:
        UnusableAudio: there is no such segment.
    """
    first, count = bounds(sound, start_s, duration_s)
    if sound.frames is not None:
        return (first, count) == (0, sound.frames)
    if first:
        return False
    if count is None:
        return True
    with opened(sound.path) as anew:  # the sound at hand may have been read
        found = sum(len(block) for block in anew.blocks(0, count + 1, BLOCK_FRAMES))
    if found <= count:
        _check_segment(first, count, found, sound.sampling_rate)
    return found <= count


def index(sound: Sound, channel: Channel) -> int | None:
    """Which of the file's channels is meant; None: the mean of all.

    Raises:
        UnusableAudio: the file has no such channel.
    """
    if channel is None:
        return None
    chosen = _SIDES.get(channel, channel)
    if not 0 <= chosen < sound.num_channels:
        there = f"{sound.num_channels}, counted from 0" if sound.num_channels > 1 else "one, which is 0 or left"
        raise UnusableAudio(f"no channel {channel}: the file has {there}")
    return chosen


def mono(block: Float[np.ndarray, "frames channels"], sound: Sound, channel: Channel) -> Float[np.ndarray, " frames"]:
    """One channel, or the mean of all; a single channel is passed on without a copy."""
    if (chosen := index(sound, channel)) is not None:
        return block[:, chosen]
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
