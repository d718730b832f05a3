"""Audio files: decoding, and the inspection that finds a bad file before any model sees it.

Reads whatever libsndfile decodes (WAV, FLAC, Ogg, MP3, …), and M4A and the like where PyAV or ffmpeg is installed. One
rule serves listing and reading: a file is decoded to its end, whatever its header promises; only an exact promise that
is clearly not kept tells a cut copy, which is refused (`headers`, `sound`). Knows no model and no corpus: a segment is
a path, a start and a duration.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from strata.extractors.audio.sound import Sound, checked, cut_off, is_clearly_less, opened
from strata.extractors.contract import SAMPLING_RATE, UnusableAudio
from strata.extractors.resampling import resample

__all__ = ["Channel", "Inspection", "content", "duration", "inspect", "of_mended", "read"]

Channel: TypeAlias = Literal["left", "right"] | int | None
"""One channel of a file, `left` being 0 and `right` 1; None: the mean of all."""
BLOCK_FRAMES = 1 << 16
"""Frames decoded at a time; memory does not grow with the file."""
SILENCE_DBFS = -60.0
"""Recordings of "silence" are seldom all zero: dither and line noise lie around -85 dB relative to full scale."""
LOUDEST = 4.0
"""The largest peak that is still about ±1: codecs and mixing overshoot a little, integers saved as floats much."""
_LONGEST_S = 1e9  # thirty years: what is beyond is a slip and need not be counted in frames
_SIDES = {"left": 0, "right": 1}


@dataclass(frozen=True)
class Inspection:
    """What a usable segment of a file holds."""

    duration_s: float
    """Duration of the segment as decoded."""
    sampling_rate: int
    """The file's own rate in Hz, before any resampling."""
    num_channels: int
    """The file's own number of channels, before they are averaged."""


def read(
    path: str | Path,
    start_s: float = 0.0,
    duration_s: float | None = None,
    sampling_rate: int = SAMPLING_RATE,
    channel: Channel = None,
    silence_dbfs: float | None = None,
) -> np.ndarray:
    """Decodes a segment to mono float32 [samples] at `sampling_rate`.

    Integer formats are scaled to ±1, channels averaged, other rates resampled.

    Args:
        path: an audio file.
        start_s: where the segment begins.
        duration_s: its duration; None means to the end of the file.
        sampling_rate: of the result, in Hz.
        channel: the one to be heard; None: the mean of all.
        silence_dbfs: refuses what `inspect` refuses, in the same words; None: the samples are taken as they are.

    Raises:
        UnusableAudio: the file is missing, is not audio, is a cut copy, or breaks off while decoding; or there is no
            such segment or channel; or one of the reasons of `inspect`.
    """
    with opened(path) as sound:
        first, count = _segment(sound, start_s, duration_s)
        # Mixed block by block, and grown by what is decoded: neither the channels of a long file together nor what a
        # header promises ever lie in memory.
        level, mono = None if silence_dbfs is None else _Level(silence_dbfs), bytearray()
        for block in _checked_blocks(sound, first, count):
            mixed = _mono(block, sound, channel)
            if level is not None:
                level.add(block, mixed)
            mono += memoryview(np.ascontiguousarray(mixed)).cast("B")
        if level is not None:
            level.judge()
        return resample(
            np.frombuffer(mono, dtype=np.float32) if mono else np.empty(0, np.float32),
            sound.sampling_rate,
            sampling_rate,
        )


def duration(path: str | Path) -> float:
    """Duration of a file, as far as it is known before it is decoded; else infinite.

    Raises:
        UnusableAudio: the file is missing, is not audio or is a cut copy.
    """
    with opened(path) as sound:
        frames = sound.promised if sound.frames is None else sound.frames
        return math.inf if frames is None else frames / sound.sampling_rate


def content(path: str | Path, start_s: float = 0.0, duration_s: float | None = None, channel: Channel = None) -> str:
    """Identity of a segment's audio: a hash of the file's bytes and, unless it is the whole file, of the segment.

    A segment that comes to all of the file's frames has the identity of the file, however it is written down. A channel
    is part of it where the file has several.

    Args:
        path: an audio file. It is decoded only where a segment is given and its length is not known without.
        start_s: where the segment begins.
        duration_s: its duration; None means to the end of the file.
        channel: the one to be heard; None: the mean of all.

    Returns:
        32 hexadecimal digits.

    Raises:
        UnusableAudio: the file is missing or cannot be read, or there is no such segment or channel.
    """
    with opened(path) as sound:
        is_whole, mended, index = _is_whole(sound, start_s, duration_s), sound.mended, _index(sound, channel)
        which = index if sound.num_channels > 1 else None
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(checked(path), "rb") as bytes_of_file:
            while block := bytes_of_file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UnusableAudio(f"unreadable: {error.strerror}") from error
    if not is_whole:
        duration = None if duration_s is None else float(duration_s)  # NumPy's floats print otherwise
        digest.update(f"#{float(start_s)!r}+{duration!r}".encode())
    if which is not None:
        digest.update(f"#channel {which}".encode())
    return of_mended(digest.hexdigest()) if mended else digest.hexdigest()


def of_mended(former: str) -> str:
    """Identity of a segment whose file's header claims less than there is; 32 hexadecimal digits.

    Earlier versions believed such headers, and knew what they made of the file by the identity that any other has: rows
    of that name hold a part of the recording.
    """
    return hashlib.blake2b(f"decoded to its end\0{former}".encode(), digest_size=16).hexdigest()


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
        first, count = _segment(sound, start_s, duration_s)
        level = _Level(silence_dbfs)
        for block in _checked_blocks(sound, first, count):
            level.add(block, _mono(block, sound, channel))
        level.judge()
        return Inspection(level.count / sound.sampling_rate, sound.sampling_rate, sound.num_channels)


class _Level:
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


def _segment(sound: Sound, start_s: float, duration_s: float | None) -> tuple[int, int | None]:
    """First frame of the segment and number of its frames, in the file's own rate; None: to the end of the file."""
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


def _checked_blocks(sound: Sound, first: int, count: int | None) -> Iterator[np.ndarray]:
    """The frames of a segment; where fewer come, because the file ends, that is held against what was promised."""
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


def _is_whole(sound: Sound, start_s: float, duration_s: float | None) -> bool:
    first, count = _segment(sound, start_s, duration_s)
    if sound.frames is not None:
        return (first, count) == (0, sound.frames)
    if first:
        return False
    if count is None:
        return True
    found = sum(len(block) for block in sound.blocks(0, count + 1, BLOCK_FRAMES))
    if found <= count:
        _check_segment(first, count, found, sound.sampling_rate)
    return found <= count


def _index(sound: Sound, channel: Channel) -> int | None:
    """Which of the file's channels is meant; None: the mean of all."""
    if channel is None:
        return None
    index = _SIDES.get(channel, channel)
    if not 0 <= index < sound.num_channels:
        there = f"{sound.num_channels}, counted from 0" if sound.num_channels > 1 else "one, which is 0 or left"
        raise UnusableAudio(f"no channel {channel}: the file has {there}")
    return index


def _mono(block: np.ndarray, sound: Sound, channel: Channel) -> np.ndarray:
    """[frames, channels] to [frames]; a single channel is passed on without a copy."""
    if (index := _index(sound, channel)) is not None:
        return block[:, index]
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
