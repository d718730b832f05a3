"""Change of sampling rate, the same wherever audio enters: soxr, quality HQ."""

import numpy as np
import soxr
from jaxtyping import Float32, Shaped


def resample(waveform: Shaped[np.ndarray, " samples"], from_hz: int, to_hz: int) -> Float32[np.ndarray, " resampled"]:
    """The waveform at another rate, as float32 [round(samples · to_hz / from_hz)].

    The length is that formula's and not the resampler's, so that what counts as long enough for a model
    (`Extractor.unusable`) and what the model is given never differ by a sample.
    """
    waveform = np.asarray(waveform, dtype=np.float32)
    if from_hz == to_hz:
        return waveform
    resampled = soxr.resample(waveform, from_hz, to_hz, quality="HQ")
    missing = round(len(waveform) * to_hz / from_hz) - len(resampled)
    return np.pad(resampled, (0, missing)) if missing > 0 else resampled[: len(resampled) + missing]
