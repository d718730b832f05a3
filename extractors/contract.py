"""What every extractor promises.

An extractor turns waveforms, or texts, into the hidden states of one frozen model, as NumPy arrays. It knows no store,
no labels and no corpus. The one rule that everything else rests on:

    a cached value is a function of the utterance alone.

Whoever shares its batch, whatever the padding, the batch size or the device, every layer of an utterance agrees to
within 1e-4 relative in float32. `tests/extractors/test_contract.py` holds every family to it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32

SAMPLING_RATE = 16_000
"""Rate in Hz that every model of the families here was trained at; other input is resampled to it."""


class ViewError(ValueError):
    """A view that cannot be loaded: its message says what was expected, what was found and the next step."""


class CheckpointAbsent(ViewError):
    """A view whose checkpoint is not on this machine, and was not or could not be fetched."""


class UnusableAudio(ValueError):
    """One utterance that cannot be used; the message is the reason, fit for a failures table."""


class UnusableText(ValueError):
    """One text that cannot be used; the message is the reason."""


def unusable(waveform: np.ndarray, sampling_rate: int, min_samples: int) -> str | None:
    """The reason why a model cannot take the waveform [samples] of that rate in Hz; None where it can.

    Args:
        waveform: whatever a file was decoded to.
        sampling_rate: its own, in Hz.
        min_samples: fewest samples at 16 kHz that the model takes.
    """
    if waveform.ndim != 1:
        return f"not mono: an array of shape {waveform.shape}, expected one axis of samples"
    num_samples = round(len(waveform) * SAMPLING_RATE / sampling_rate)
    if num_samples == 0:
        return "empty"
    if num_samples < min_samples:
        needed_ms, found_ms = (1000 * n / SAMPLING_RATE for n in (min_samples, num_samples))
        return f"too short for the model: {found_ms:.1f} ms, at least {needed_ms:.1f} ms needed"
    with np.errstate(invalid="ignore", over="ignore"):
        total = waveform.sum()  # finite only of what is; the other way round it may run over
    if not np.isfinite(total) and not np.isfinite(waveform).all():
        return "not finite"
    return None


@dataclass(frozen=True)
class HiddenStates:
    """What one model says about one utterance."""

    pooled: Float32[np.ndarray, "layers dim"]
    """Each layer's mean over the utterance's valid frames, or what the model has instead."""
    num_frames: int
    """Number of valid frames that `pooled` averages over; 0 where the model has no frames of its own."""
    frames: Mapping[str, Float32[np.ndarray, "_ frame_dim"]] = field(default_factory=dict)
    """[num_frames, frame_dim] for each kept layer, by layer name; empty unless the view keeps frames."""


@dataclass(frozen=True)
class Size:
    """How large a model is, and what cutting it saves."""

    parameters: int
    """Of the network that runs: what comes after the highest layer asked for is left out."""
    whole: int
    """Of the whole encoder."""
    itemsize: int
    """Bytes of one."""


class Extractor(ABC):
    """One view's frozen model. Cheap to make: weights are read at the first call of `extract`."""

    layer_names: tuple[str, ...]
    """Names of the layers in the order of `HiddenStates.pooled`: `"0"`, `"1"`, … for transformer hidden states."""
    frame_layers: tuple[str, ...]
    """Names of the layers whose frames are kept; usually empty. A subset of `layer_names`, except where no layer is a
    mean of frames (`opensmile`)."""
    dim: int
    """Width of every layer of `HiddenStates.pooled`."""
    frame_rate_hz: float
    """Frames per second of audio; 0.0 where the model has no frames, or where they are a text's tokens."""
    checkpoint: Path | None = None
    """Folder of the model's files, on which the fingerprint depends beside the view; None where there are none."""
    size: Size | None = None
    """Of the network; None where it is not known or there is none."""
    in_float32: tuple[str, ...] = ()
    """Modules of the network that are computed in float32 because the view's number format is wrong for them on this
    machine; known once the weights are there."""
    device: str = "cpu"
    """Where the network runs, such as `cpu` or `cuda:0`."""
    batch_s: float | None = None
    """Most seconds of audio in a batch, padding included, as far as is known by now; it sinks where one did not fit.
    None where utterances are computed one by one, and for texts. Asking loads the weights."""

    @property
    def frame_dim(self) -> int:
        """Width of one kept frame: `dim`, except where `pooled` joins several statistics of the frames (`mfcc`,
        `opensmile`)."""
        return self.dim

    @property
    @abstractmethod
    def fingerprint(self) -> dict[str, object]:
        """JSON-able fields that determine the values: family, source, revision, weights (hash), preprocessing, masking,
        compute_dtype, layers, frames, pooling. Nothing that leaves values unchanged (device, batch size) is among them.
        Computed without loading the weights into memory."""


class AudioExtractor(Extractor):
    """An extractor that hears."""

    min_samples: int
    """Fewest samples at 16 kHz from which the model makes at least one frame."""

    def extract(self, waveforms: Sequence[np.ndarray], sampling_rate: int) -> list[HiddenStates]:
        """Hidden states of each waveform, in the order given.

        Args:
            waveforms: mono float arrays [samples], amplitude within about ±1, of any lengths.
            sampling_rate: of all waveforms, in Hz.

        Raises:
            UnusableAudio: a waveform is empty, shorter than `min_samples`, or not finite (`unusable` tells beforehand).
                Nothing has been computed then.
        """
        from strata.extractors.resampling import (
            resample,  # loads a compiled library, which importing the contract must not
        )

        for waveform in waveforms:
            if (reason := self.unusable(waveform, sampling_rate)) is not None:
                raise UnusableAudio(reason)
        return self._extract([resample(waveform, sampling_rate, SAMPLING_RATE) for waveform in waveforms])

    @abstractmethod
    def _extract(self, waveforms: Sequence[np.ndarray]) -> list[HiddenStates]:
        """As `extract`, of float32 waveforms [samples] at 16 kHz, each found usable."""

    def unusable(self, waveform: np.ndarray, sampling_rate: int) -> str | None:
        """The reason why this model cannot take the waveform [samples]; None where it can."""
        return unusable(waveform, sampling_rate, self.min_samples)


class TextExtractor(Extractor):
    """An extractor that reads. Its frames are tokens."""

    frame_rate_hz = 0.0

    def extract(self, texts: Sequence[str]) -> list[HiddenStates]:
        """Hidden states of each text, in the order given.

        Raises:
            UnusableText: a text has no word (`unusable` tells beforehand). Nothing has been computed then.
        """
        for text in texts:
            if (reason := self.unusable(text)) is not None:
                raise UnusableText(reason)
        return self._extract(texts)

    @abstractmethod
    def _extract(self, texts: Sequence[str]) -> list[HiddenStates]:
        """As `extract`, of texts each found usable."""

    def unusable(self, text: str) -> str | None:
        """The reason why this model cannot take the text; None where it can."""
        return None if text.strip() else "empty"
