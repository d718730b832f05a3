"""What a segment of a file holds, or why it is unusable: found before any model sees it.

Decodes a file once, however many of its segments are asked for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from strata.extractors.audio.segments import BLOCK_FRAMES, Channel, Segment, bounds, checked_blocks, mono
from strata.extractors.audio.sound import opened
from strata.extractors.contract import UnusableAudio

SILENCE_DBFS = -60.0
"""Recordings of "silence" are seldom all zero: dither and line noise lie around -85 dB relative to full scale."""
LOUDEST = 4.0
"""The largest peak that is still about ±1: codecs and mixing overshoot a little, integers saved as floats much."""
GAP_S = 10.0
"""Seconds between two segments that are passed over by seeking; what is shorter is decoded on the way."""


@dataclass(frozen=True)
class Inspection:
    """What a usable segment of a file holds."""

    duration_s: float
    """Duration of the segment as decoded."""
    sampling_rate: int
    """The file's own rate in Hz, before any resampling."""
    num_channels: int
    """The file's own number of channels, before they are averaged."""


def inspect(
    path: str | Path,
    start_s: float = 0.0,
    duration_s: float | None = None,
    silence_dbfs: float = SILENCE_DBFS,
    channel: Channel = None,
) -> Inspection:
    """Decodes a segment block by block and tells what it holds.

    Args:
        path: an audio file.
        start_s: where the segment begins.
        duration_s: its duration; None means to the end of the file.
        silence_dbfs: the segment is silent when no sample is this far from their mean, in dB relative to full scale.
        channel: the one to be heard; None: the mean of all.

    Raises:
        UnusableAudio: the segment is missing, unreadable, empty, not finite, silent or far louder than full scale; or
            the file is a cut copy.
    """
    with opened(path) as sound:
        first, count = bounds(sound, start_s, duration_s)
        level = Level(silence_dbfs)
        for block in checked_blocks(sound, first, count):
            level.add(block, mono(block, sound, channel))
        level.judge()
        return Inspection(level.count / sound.sampling_rate, sound.sampling_rate, sound.num_channels)


def inspect_all(
    path: str | Path, segments: Sequence[Segment], silence_dbfs: float = SILENCE_DBFS, channel: Channel = None
) -> list[Inspection | UnusableAudio]:
    """What each of several segments of one file holds, or why it is unusable; the file is decoded once, see `inspect`.

    Args:
        path: an audio file.
        segments: start and duration of each, in seconds.
        silence_dbfs: see `inspect`.
        channel: the one to be heard; None: the mean of all.

    Raises:
        UnusableAudio: there are several, and the file cannot be opened.
    """
    found: dict[int, Inspection | UnusableAudio] = {}
    for passage in _passages(path, segments) if len(segments) > 1 else ():
        found |= _passed(path, passage, silence_dbfs, channel)
    for number, segment in enumerate(segments):
        if number not in found:  # to the file's end, beyond it, or behind a place where decoding stops
            try:
                found[number] = inspect(path, *segment, silence_dbfs, channel)
            except UnusableAudio as error:
                found[number] = error
    return [found[number] for number in range(len(segments))]


_Part: TypeAlias = tuple[int, int, int]
"""First frame of a segment, the one behind its last, and its number."""


def _passages(path: str | Path, segments: Sequence[Segment]) -> list[list[_Part]]:
    """The segments by where they lie, together those that are decoded in one go."""
    with opened(path) as sound:
        parts = []
        for number, segment in enumerate(segments):
            try:
                first, count = bounds(sound, *segment)
            except UnusableAudio:
                continue
            if count:
                parts.append((first, first + count, number))
        # What is not sought in is decoded from its beginning anyway.
        gap = math.inf if sound.frames is None else GAP_S * sound.sampling_rate
    passages, reached = [], -math.inf
    for part in sorted(parts):
        if not passages or part[0] > reached + gap:
            passages.append([])
        passages[-1].append(part)
        reached = max(reached, part[1])
    return passages


def _passed(
    path: str | Path, passage: Sequence[_Part], silence_dbfs: float, channel: Channel
) -> dict[int, Inspection | UnusableAudio]:
    """By number, what segments hold that are decoded together; those that decoding did not reach are not among them."""
    found, under_way, coming = {}, [], list(reversed(passage))
    at, last = passage[0][0], max(end for _, end, _ in passage)
    try:
        with opened(path) as sound:
            for block in sound.blocks(at, last - at, BLOCK_FRAMES):
                mixed = mono(block, sound, channel)
                while coming and coming[-1][0] < at + len(block):
                    under_way.append((*coming.pop(), Level(silence_dbfs)))
                for first, end, number, level in under_way:
                    part = slice(max(first - at, 0), end - at)
                    try:
                        level.add(block[part], mixed[part])
                        if end <= at + len(block):
                            level.judge()
                            duration_s = level.count / sound.sampling_rate
                            found[number] = Inspection(duration_s, sound.sampling_rate, sound.num_channels)
                    except UnusableAudio as error:
                        found[number] = error
                under_way = [each for each in under_way if each[2] not in found]
                at += len(block)
    except UnusableAudio:  # whom it costs is told for each of them alone
        pass
    return found


class Level:
    """How loud a segment is, block by block. The mean does not count: a constant is no sound."""

    def __init__(self, silence_dbfs: float):
        self.count = 0
        self._silence = 10 ** (silence_dbfs / 20)
        self._sum, self._lowest, self._highest = 0.0, math.inf, -math.inf
        self._apart = 0.0

    def add(self, block: np.ndarray, mixed: np.ndarray) -> None:
        """One more block [frames, channels], and what is heard of it [frames]."""
        lowest, highest = float(mixed.min()), float(mixed.max())
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise UnusableAudio("not finite")
        self.count += len(mixed)
        self._sum += float(mixed.mean(dtype=np.float32)) * len(mixed)  # pairwise: exact enough, twice as fast
        self._lowest, self._highest = min(lowest, self._lowest), max(highest, self._highest)
        if block.shape[1] > 1 and highest - lowest < 2 * self._silence:  # else it does not matter
            self._apart = max(self._apart, float(np.ptp(block, axis=0).max()) / 2)

    def judge(self) -> None:
        """Raises UnusableAudio where there is nothing to hear, or where that cannot be sound within ±1."""
        if self.count == 0:
            raise UnusableAudio("empty")
        mean = self._sum / self.count
        # The mean of samples that are all the same is theirs to within rounding, and no more.
        peak = max(self._highest - mean, mean - self._lowest) if self._highest > self._lowest else 0.0
        if peak < self._silence:
            reason = f"silent: peak {_dbfs(max(self._highest, -self._lowest))}"
            if abs(mean) >= self._silence:
                reason = f"silent: peak {_dbfs(peak)} around a constant {mean:.3g}"
            if self._apart >= self._silence:
                reason += (
                    f"; its channels, {_dbfs(self._apart)} each, cancel each other out: choose one, by `channel: left` "
                    "(right, 0, 1, …) in the corpus's section or by `--channel left` where files are given"
                )
            raise UnusableAudio(reason)
        if (largest := max(self._highest, -self._lowest)) > LOUDEST:
            raise UnusableAudio(
                f"far too loud: peak {largest:.4g}, expected samples within ±1; divide what was saved in the scale of "
                "integers by their full scale (32768 for 16 bits)"
            )


def _dbfs(peak: float) -> str:
    return f"{20 * math.log10(peak):.0f} dBFS" if peak > 0 else "zero"
