"""Waveforms of one batch, each normalised by itself and then padded to the longest: in this order, for statistics over
the padding would make a value depend on who shares its batch.

Knows no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Integer
from torch import Tensor

_FLOOR = 1e-7
"""Added to the variance by `Wav2Vec2FeatureExtractor`: silence gives zeros, never NaN."""


@dataclass(frozen=True)
class Padded:
    """One batch as a model takes it."""

    waveforms: Float32[np.ndarray, "batch samples"]
    """Zeros at the end."""
    lengths: Sequence[int]
    """Samples of each."""
    raw: Sequence[bool]
    """Of each, whether it is still to be normalised."""

    @property
    def is_padded(self) -> bool:
        """Whether there are any such zeros."""
        return min(self.lengths) != max(self.lengths)


def pad(
    waveforms: Sequence[Float[np.ndarray, " _"]], moments: Sequence[tuple[float, float] | None], *, pinned: bool = False
) -> Padded:
    """One batch of waveforms, less the mean and divided by the scale that go with each.

    Args:
        waveforms: float32, each a whole utterance or a window of one.
        moments: of the utterances; None leaves it to `normalised` to take those of the waveform.
        pinned: in memory from which a GPU copies by itself.
    """
    lengths = [len(waveform) for waveform in waveforms]
    rows = torch.zeros(len(waveforms), max(lengths), pin_memory=pinned).numpy()
    for row, waveform, known in zip(rows, waveforms, moments, strict=True):
        valid = row[: len(waveform)]
        if known is None:
            valid[:] = waveform
        else:
            np.subtract(waveform, known[0], out=valid)
            valid /= known[1]
    return Padded(rows, lengths, [known is None for known in moments])


def moments(waveform: Float[np.ndarray, " samples"]) -> tuple[np.float32, np.float32]:
    """Mean and scale of `do_normalize`, as `Wav2Vec2FeatureExtractor` takes them."""
    return waveform.mean(), np.sqrt(waveform.var() + np.float32(_FLOOR))


def normalised(
    waveforms: Float32[Tensor, "batch samples"], lengths: Integer[Tensor, " batch"], raw: Bool[Tensor, " batch"]
) -> Float32[Tensor, "batch samples"]:
    """As `pad` does where it is given the moments, on a device that has all rows at once.

    Args:
        waveforms: of a `Padded`.
        lengths: its own.
        raw: likewise: all other rows stay as they are.
    """
    count = lengths[:, None]
    mean = waveforms.sum(dim=1, keepdim=True) / count
    padding = torch.arange(waveforms.shape[1], device=waveforms.device) >= count
    centred = (waveforms - mean).masked_fill_(padding, 0)
    scale = (centred.square().sum(dim=1, keepdim=True) / count + _FLOOR).sqrt_()
    return torch.where(raw[:, None], centred / scale, waveforms)
