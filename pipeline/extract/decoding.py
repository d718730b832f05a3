"""Recordings decoded ahead of the model that waits for them: portion by portion, several files at a time.

Takes recordings of the manifest, hands over waveforms, or the reason why there is none; texts are passed on. Knows no
model but by the function that says what it cannot take.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extractors import UnusableAudio, audio
from extractors.contract import SAMPLING_RATE
from pipeline.extract.failures import Failure

PORTION_S = 600.0
"""Seconds of audio decoded ahead of the model: bounds memory whatever the recordings' lengths."""


@dataclass(frozen=True)
class Recording:
    """One utterance of the manifest, or one text, as far as computing it goes."""

    content: str
    audio: str
    start_s: float
    duration_s: float
    text: str | None = None
    """For text views, which decode no audio; `content` is its identity then."""


def decoded(
    folder: str | Path, recordings: Sequence[Recording], unusable: Callable[..., str | None]
) -> Iterator[tuple[list[Recording], list[np.ndarray | str | Failure]]]:
    """Portions of (recordings, waveforms at 16 kHz, texts or failures); the next is decoded while one is computed.

    Args:
        folder: the study's, where relative paths begin.
        recordings: at least one.
        unusable: given a waveform and its rate in Hz, or a text, says why the model cannot take it; None where it can.
    """

    def decode(recording: Recording) -> np.ndarray | str | Failure:
        if recording.text is not None:
            reason = unusable(recording.text)
            return recording.text if reason is None else Failure(reason, lasting=True)
        path = Path(folder, recording.audio)
        try:
            samples = audio.read(path, recording.start_s, recording.duration_s, SAMPLING_RATE)
            if audio.content(path, recording.start_s, recording.duration_s) != recording.content:
                return Failure("changed since `strata corpus` listed it; run that again")
        except (UnusableAudio, OSError) as error:
            return Failure(str(error))
        except MemoryError:
            return Failure("does not fit into memory when it is decoded; divide the recording into shorter ones")
        reason = unusable(samples, SAMPLING_RATE)
        return samples if reason is None else Failure(reason, lasting=True)

    ends = np.cumsum([recording.duration_s for recording in recordings])
    numbers = ends // PORTION_S
    portions = [[r for r, n in zip(recordings, numbers, strict=True) if n == number] for number in np.unique(numbers)]
    with ThreadPoolExecutor() as pool:
        pending = [pool.submit(decode, recording) for recording in portions[0]]
        for i, portion in enumerate(portions):
            waveforms = [decoding.result() for decoding in pending]
            pending = [pool.submit(decode, r) for r in portions[i + 1]] if i + 1 < len(portions) else []
            yield portion, waveforms
