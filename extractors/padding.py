"""Waveforms of one batch, each normalised by itself and then padded to the longest: in this order, for statistics over
the padding would make a value depend on who shares its batch.

Knows no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Padded:
    """One batch as a model takes it."""

    waveforms: np.ndarray
    """float32 [batch, samples], zeros at the end."""
    lengths: Sequence[int]
    """Samples of each."""

    @property
    def is_padded(self) -> bool:
        """Whether there are any such zeros."""
        return min(self.lengths) != max(self.lengths)

    @property
    def valid(self) -> np.ndarray:
        """bool [batch, samples], false where there are."""
        return np.arange(self.waveforms.shape[1]) < np.array(self.lengths)[:, None]


def pad(waveforms: Sequence[np.ndarray], moments: Sequence[tuple[float, float]]) -> Padded:
    """One batch of waveforms [samples], less the mean and divided by the scale that go with each."""
    lengths = [len(waveform) for waveform in waveforms]
    rows = np.zeros((len(waveforms), max(lengths)), dtype=np.float32)
    for row, waveform, (mean, scale) in zip(rows, waveforms, moments, strict=True):
        valid = row[: len(waveform)]
        np.subtract(waveform, mean, out=valid)
        valid /= scale
    return Padded(rows, lengths)


def moments(waveform: np.ndarray) -> tuple[np.float32, np.float32]:
    """Mean and scale of `do_normalize`, as `Wav2Vec2FeatureExtractor` takes them: silence gives zeros, never NaN."""
    return waveform.mean(), np.sqrt(waveform.var() + np.float32(1e-7))
