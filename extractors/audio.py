"""Audio files: decoding, and the inspection that finds a bad file before any model sees it.

Reads whatever libsndfile decodes (WAV, FLAC, Ogg, MP3, …). Knows no model and no corpus: a segment is a path, a start
and a duration.
"""

import hashlib
import math
import os
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

_NO_HEADER = "unreadable: no header that tells rate and format"
_LONGEST_S = 1e9  # thirty years: what is beyond is a slip and need not be counted in frames

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
        UnusableAudio: the file is missing, is not audio, or breaks off while decoding; or there is no such segment.
    """
    with _opened(path) as file:
        first, last = _segment(file, start_s, duration_s)
        # Mixed block by block: the channels of a long file together never lie in memory.
        mono, decoded = np.empty(last - first, dtype=np.float32), 0
        for block in _blocks(file, first, last):
            mono[decoded : decoded + len(block)] = _mono(block)
            decoded += len(block)
        _check_length(last - first, decoded)
        return resample(mono, file.samplerate, sampling_rate)


def duration(path: str | Path) -> float:
    """Duration that a file's header promises; nothing is decoded.

    Raises:
        UnusableAudio: the file is missing or is not audio.
    """
    with _opened(path) as file:
        return file.frames / file.samplerate


def content(path: str | Path, start_s: float = 0.0, duration_s: float | None = None) -> str:
    """Identity of a segment's audio: a hash of the file's bytes and, unless it is the whole file, of the segment.

    A segment that comes to all of the file's frames has the identity of the file, however it is written down.

    Args:
        path: an audio file. It is decoded no further than its header, and not at all where no segment is given.
        start_s: where the segment begins.
        duration_s: its duration; None means to the end of the file.

    Returns:
        32 hexadecimal digits.

    Raises:
        UnusableAudio: the file is missing or cannot be read, or there is no such segment.
    """
    is_whole = start_s == 0 and duration_s is None
    if not is_whole:
        with _opened(path) as file:
            is_whole = _segment(file, start_s, duration_s) == (0, file.frames)
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(_checked(path), "rb") as bytes_of_file:
            while block := bytes_of_file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UnusableAudio(f"unreadable: {error.strerror}") from error
    if not is_whole:
        duration = None if duration_s is None else float(duration_s)  # NumPy's floats print otherwise
        digest.update(f"#{float(start_s)!r}+{duration!r}".encode())
    return digest.hexdigest()


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
        _check_length(last - first, decoded)
        if decoded == 0:
            raise UnusableAudio("empty")
        if peak < 10 ** (silence_dbfs / 20):
            level = f"{20 * math.log10(peak):.0f} dBFS" if peak > 0 else "zero"
            raise UnusableAudio(f"silent: peak {level}")
        return Inspection(decoded / file.samplerate, file.samplerate, file.channels)


def _checked(path: str | Path) -> Path:
    path = Path(path)
    try:
        if path.is_file():
            return path
        raise UnusableAudio("not a file" if path.exists() else "missing")
    except OSError as error:  # such as a name that is too long
        raise UnusableAudio(f"unreadable: {error.strerror}") from error


def _opened(path: str | Path) -> soundfile.SoundFile:
    path = _checked(path)
    if path.stat().st_size == 0:
        raise UnusableAudio("empty")
    try:
        file = soundfile.SoundFile(os.fsencode(path))  # as bytes, for a name need not be text
    except soundfile.LibsndfileError as error:
        reason = error.error_string
        if reason.startswith("File does not exist"):  # what libsndfile says of an MP3 that is none
            reason = "Format not recognised."
        raise UnusableAudio(f"unreadable: {reason}") from error
    except TypeError as error:  # *.raw, of which soundfile wants to be told rate and format
        raise UnusableAudio(_NO_HEADER) from error
    if file.format == "RAW":  # what libsndfile makes of *.gsm, *.vox and *.au without a header: a guess by their names
        file.close()
        raise UnusableAudio(_NO_HEADER)
    return file


def _segment(file: soundfile.SoundFile, start_s: float, duration_s: float | None) -> tuple[int, int]:
    """First frame of the segment and the frame after its last, in the file's own rate."""
    first = _frames(file, start_s, "start")
    last = file.frames if duration_s is None else first + _frames(file, duration_s, "duration")
    # Corpora give times to a few decimals, so a segment may end a few milliseconds past its file.
    if last > file.frames + file.samplerate // 100 or first > file.frames:
        raise UnusableAudio(
            f"segment beyond the file: {first / file.samplerate:.2f} to {last / file.samplerate:.2f} s of "
            f"{file.frames / file.samplerate:.2f} s"
        )
    return first, min(last, file.frames)


def _frames(file: soundfile.SoundFile, seconds: float, what: str) -> int:
    if not -_LONGEST_S < seconds < _LONGEST_S or round(seconds * file.samplerate) < 0:  # NaN is not in between either
        raise UnusableAudio(f"no such segment: its {what} is {seconds:g} s")
    return round(seconds * file.samplerate)


def _check_length(promised: int, decoded: int) -> None:
    if decoded != promised:
        raise UnusableAudio(f"wrong header: {promised} frames promised, {decoded} decoded")


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
