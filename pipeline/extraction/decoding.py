"""Recordings decoded ahead of the model that waits for them: portion by portion, several files at a time.

Takes recordings of the manifest (`decoded`), or files of any kind (`ahead`, `waveform`); hands over waveforms, or the
reason why there is none; texts are passed on. Knows no model but by the function that says what it cannot take.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np

from strata.extractors import UnusableAudio, audio
from strata.extractors.contract import SAMPLING_RATE
from strata.pipeline.study.failures import Failure

PORTION_S = 600.0
"""Seconds of audio decoded ahead of the model: bounds memory whatever the recordings' lengths …"""
CPU_PORTION_S = 16.0
"""… and on a CPU, which takes minutes for as much: two batches. What a portion gave can be kept."""

Item = TypeVar("Item")
Decoded = TypeVar("Decoded")


@dataclass(frozen=True)
class Recording:
    """One utterance of the manifest, or one text, as far as computing it goes."""

    content: str
    audio: str
    start_s: float
    duration_s: float
    text: str | None = None
    """For text views, which decode no audio; `content` is its identity then."""
    channel: audio.Channel = None
    """Of the file; None: the mean of all."""


def divided(recordings: Sequence[Recording], most_s: float, least_s: float = 0.0) -> list[list[Recording]]:
    """The recordings in order, divided where so many seconds of audio have come together.

    Args:
        recordings: all of them, whatever is to be done with some: the same ones are divided in the same places.
        most_s: seconds in a portion; its last recording may reach beyond.
        least_s: what a shorter recording counts as.
    """
    durations = [max(recording.duration_s, least_s) for recording in recordings]
    numbers = (np.cumsum([0.0, *durations])[:-1] // most_s).tolist()
    return [[recordings[i] for i in group] for _, group in groupby(range(len(recordings)), key=numbers.__getitem__)]


def decoded(
    folder: str | Path, portions: Iterable[Sequence[Recording]], unusable: Callable[..., str | None]
) -> Iterator[tuple[Sequence[Recording], list[np.ndarray | str | Failure]]]:
    """Portions of (recordings, waveforms at 16 kHz, texts or failures); the next is decoded while one is computed.

    Args:
        folder: the study's, where relative paths begin.
        portions: see `divided`.
        unusable: given a waveform and its rate in Hz, or a text, says why the model cannot take it; None where it can.
    """

    def decode(recording: Recording) -> np.ndarray | str | Failure:
        if recording.text is not None:
            reason = unusable(recording.text)
            return recording.text if reason is None else Failure(reason, lasting=True)
        path, segment = Path(folder, recording.audio), (recording.start_s, recording.duration_s)
        return waveform(path, unusable, *segment, content=recording.content, channel=recording.channel)

    return ahead(portions, decode)


def ahead(
    portions: Iterable[Sequence[Item]], decode: Callable[[Item], Decoded]
) -> Iterator[tuple[Sequence[Item], list[Decoded]]]:
    """Portions with what `decode` made of each item, in order; while one is computed, the next is decoded.

    Two portions are held at a time, and no more are taken from `portions`.
    """
    upcoming = iter(portions)
    with ThreadPoolExecutor() as pool:

        def begin() -> tuple[Sequence[Item], list] | None:
            portion = next(upcoming, None)
            return None if portion is None else (portion, [pool.submit(decode, item) for item in portion])

        under_way = begin()
        while under_way is not None:
            portion, decoding = under_way
            outcomes = [one.result() for one in decoding]
            under_way = begin()
            yield portion, outcomes


def waveform(
    path: Path,
    unusable: Callable[[np.ndarray, int], str | None],
    start_s: float = 0.0,
    duration_s: float | None = None,
    content: str | None = None,
    channel: audio.Channel = None,
    silence_dbfs: float | None = None,
) -> np.ndarray | Failure:
    """A segment as float32 [samples] at 16 kHz, or why there is none.

    Args:
        path: an audio file.
        unusable: given a waveform and its rate in Hz, says why the model cannot take it; None where it can.
        start_s: where the segment begins.
        duration_s: its duration; None means to the end of the file.
        content: what `audio.content` must say of the segment; None where nobody has asked before.
        channel: the one to be heard; None: the mean of all.
        silence_dbfs: what `strata corpus` would not list is refused in its words, see `audio.read`; None where it is
            listed.
    """
    try:
        samples = audio.read(path, start_s, duration_s, SAMPLING_RATE, channel, silence_dbfs)
        if content is not None and audio.content(path, start_s, duration_s, channel) != content:
            return Failure("changed since `strata corpus` listed it; run that again")
    except (UnusableAudio, OSError) as error:
        return Failure(str(error))
    except MemoryError:
        return Failure("does not fit into memory when it is decoded; divide the recording into shorter ones")
    except Exception as error:  # whatever a decoder does of a strange file, it costs that file only
        return Failure(f"unreadable: {type(error).__name__}: {error}")
    reason = unusable(samples, SAMPLING_RATE)
    return samples if reason is None else Failure(reason, lasting=True)
