"""Audio files: decoding, and the inspection that finds a bad file before any model sees it.

Reads whatever libsndfile decodes (WAV, FLAC, Ogg, MP3, …). Knows no model and no corpus: a segment is a path, a start
and a duration.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from extractors.contract import SAMPLING_RATE, UnusableAudio
from extractors.resampling import resample

BLOCK_FRAMES = 1 << 16
"""Frames decoded at a time by `inspect`; its memory does not grow with the file."""

_SHORT_DATA_CHUNK = re.compile(r"^data\s*: \d+ \(should be \d+\)", re.MULTILINE)


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
    path: str | Path, start_s: float = 0.0, duration_s: float | None = None, sampling_rate: int = SAMPLING_RATE
) -> np.ndarray:
    """Decodes a segment to mono float32 [samples] at `sampling_rate`.

    Integer formats are scaled to ±1, channels averaged, other rates resampled.

    Args:
        path: an audio file.
        start_s: where the segment begins.
        duration_s: its duration; None means to the end of the file.
        sampling_rate: of the result, in Hz.

    Raises:
        UnusableAudio: the file is missing, is not audio, or breaks off while decoding.
    """
    with _opened(path) as file:
        first, last = _segment(file, start_s, duration_s)
        try:
            file.seek(first)
            samples = file.read(last - first, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise UnusableAudio(f"unreadable: {error.error_string}") from error
        return resample(_mono(samples), file.samplerate, sampling_rate)


def inspect(
    path: str | Path, start_s: float = 0.0, duration_s: float | None = None, silence_dbfs: float = -60.0
) -> Inspection:
    """Decodes a segment block by block and tells what it holds.

    Args:
        path: an audio file.
        start_s: where the segment begins.
        duration_s: its duration; None means to the end of the file.
        silence_dbfs: the segment is silent when no sample reaches this level, in dB relative to full scale. Recordings
            of "silence" are seldom all zero: dither and line noise lie around -85.

    Raises:
        UnusableAudio: the segment is missing, unreadable, empty, not finite or silent, or the header promises another
            length than the file holds.
    """
    with _opened(path) as file:
        if _SHORT_DATA_CHUNK.search(file.extra_info):  # libsndfile mends such a length silently; only its log tells
            raise UnusableAudio("wrong header: it promises more or less audio than the file holds")
        first, last = _segment(file, start_s, duration_s)
        decoded, peak = 0, 0.0
        for block in _blocks(file, first, last):
            if not np.isfinite(block).all():
                raise UnusableAudio("not finite")
            decoded += len(block)
            peak = max(peak, float(np.abs(_mono(block)).max()))
        if decoded != last - first:
            raise UnusableAudio(f"wrong header: {last - first} frames promised, {decoded} decoded")
        if decoded == 0:
            raise UnusableAudio("empty")
        if peak < 10 ** (silence_dbfs / 20):
            level = f"{20 * math.log10(peak):.0f} dBFS" if peak > 0 else "all zero"
            raise UnusableAudio(f"silent: peak {level}")
        return Inspection(decoded / file.samplerate, file.samplerate, file.channels)


def _opened(path: str | Path) -> soundfile.SoundFile:
    if not Path(path).is_file():
        raise UnusableAudio("missing")
    try:
        return soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        reason = "empty" if Path(path).stat().st_size == 0 else f"unreadable: {error.error_string}"
        raise UnusableAudio(reason) from error


def _segment(file: soundfile.SoundFile, start_s: float, duration_s: float | None) -> tuple[int, int]:
    """First frame of the segment and the frame after its last, in the file's own rate."""
    first = round(start_s * file.samplerate)
    last = file.frames if duration_s is None else first + round(duration_s * file.samplerate)
    # Corpora give times to a few decimals, so a segment may end a few milliseconds past its file.
    if last > file.frames + file.samplerate // 100 or first > file.frames:
        raise UnusableAudio(
            f"segment beyond the file: {first / file.samplerate:.2f} to {last / file.samplerate:.2f} s of "
            f"{file.frames / file.samplerate:.2f} s"
        )
    return first, min(last, file.frames)


def _blocks(file: soundfile.SoundFile, first: int, last: int) -> Iterator[np.ndarray]:
    """The decoded frames [block, channels] of a segment; fewer than promised where the file breaks off."""
    try:
        file.seek(first)
        while first < last:
            block = file.read(min(BLOCK_FRAMES, last - first), dtype="float32", always_2d=True)
            if not len(block):
                return
            yield block
            first += len(block)
    except soundfile.LibsndfileError as error:
        raise UnusableAudio(f"unreadable: {error.error_string}") from error


def _mono(samples: np.ndarray) -> np.ndarray:
    """[frames, channels] to [frames]; a single channel is passed on without a copy."""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
