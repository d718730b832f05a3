"""Audio files: decoding, and the inspection that finds a bad file before any model sees it.

Reads whatever libsndfile decodes (WAV, FLAC, Ogg, MP3, …), and M4A and the like where PyAV or ffmpeg is installed. One
rule serves listing and reading: a file is decoded to its end, whatever its header promises; only an exact promise that
is clearly not kept tells a cut copy, which is refused (`headers`, `sound`). Knows no model and no corpus: a segment is
a path, a start and a duration.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from strata.extractors.audio.inspection import SILENCE_DBFS, Inspection, Level, inspect, inspect_all
from strata.extractors.audio.remembered import PerFile
from strata.extractors.audio.segments import Channel, Segment, bounds, checked_blocks, index, is_whole, mono
from strata.extractors.audio.sound import checked, opened
from strata.extractors.contract import SAMPLING_RATE, UnusableAudio
from strata.extractors.resampling import resample

__all__ = [
    "SILENCE_DBFS",
    "Channel",
    "Inspection",
    "Segment",
    "content",
    "contents",
    "duration",
    "inspect",
    "inspect_all",
    "of_mended",
    "read",
]


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
        first, count = bounds(sound, start_s, duration_s)
        # Mixed block by block, and grown by what is decoded: neither the channels of a long file together nor what a
        # header promises ever lie in memory.
        level, heard = None if silence_dbfs is None else Level(silence_dbfs), bytearray()
        for block in checked_blocks(sound, first, count):
            mixed = mono(block, sound, channel)
            if level is not None:
                level.add(block, mixed)
            heard += memoryview(np.ascontiguousarray(mixed)).cast("B")
        if level is not None:
            level.judge()
        return resample(
            np.frombuffer(heard, dtype=np.float32) if heard else np.empty(0, np.float32),
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
    return contents(path, [(start_s, duration_s)], channel)[0]


def contents(path: str | Path, segments: Sequence[Segment], channel: Channel = None) -> list[str]:
    """The identities of several segments of one file, whose bytes are read once; see `content`.

    Args:
        path: an audio file.
        segments: start and duration of each, in seconds.
        channel: the one to be heard; None: the mean of all.

    Raises:
        UnusableAudio: as above, of any segment.
    """
    with opened(path) as sound:
        chosen = index(sound, channel)
        which = chosen if sound.num_channels > 1 else None
        whole = [is_whole(sound, *segment) for segment in segments]
    try:
        of_file = _digest(checked(path))
    except OSError as error:
        raise UnusableAudio(f"unreadable: {error.strerror}") from error
    found = []
    for (start_s, duration_s), all_of_it in zip(segments, whole, strict=True):
        digest = of_file.copy()
        if not all_of_it:
            duration = None if duration_s is None else float(duration_s)  # NumPy's floats print otherwise
            digest.update(f"#{float(start_s)!r}+{duration!r}".encode())
        if which is not None:
            digest.update(f"#channel {which}".encode())
        found.append(of_mended(digest.hexdigest()) if sound.mended else digest.hexdigest())
    return found


@PerFile
def _digest(path: Path) -> "hashlib.blake2b":
    """Of a file's bytes; to be copied before more is added to it."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as bytes_of_file:
        while block := bytes_of_file.read(1 << 20):
            digest.update(block)
    return digest


def of_mended(former: str) -> str:
    """Identity of a segment whose file's header claims less than there is; 32 hexadecimal digits.

    Earlier versions believed such headers, and knew what they made of the file by the identity that any other has: rows
    of that name hold a part of the recording.
    """
    return hashlib.blake2b(f"decoded to its end\0{former}".encode(), digest_size=16).hexdigest()
