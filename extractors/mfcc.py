"""Mel-frequency cepstral coefficients, in NumPy and SciPy alone: the hand-crafted view, and the one without weights.

Frames of 25 ms every 10 ms that lie wholly on the audio (no padding at its edges), Hamming window, power spectrum,
triangular mel filters, natural logarithm, orthonormal DCT. Pooled over the frames to their mean, or to mean and
standard deviation.

Source: Davis and Mermelstein, *Comparison of parametric representations for monosyllabic word recognition*, 1980;
mel scale of O'Shaughnessy (HTK): 2595 · log10(1 + f / 700).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64
from scipy.fft import dct, rfft

from strata.extractors.contract import SAMPLING_RATE, AudioExtractor, HiddenStates
from strata.extractors.view import MFCCView

FRAME_LENGTH = 400
FRAME_STEP = 160
N_FFT = 512

_FLOOR = 1e-10  # of a band's energy, about -100 dB: digital silence has a logarithm too
_BLOCK_FRAMES = 4096  # what bounds the memory that a long file takes


class MFCCExtractor(AudioExtractor):
    """MFCCs of each frame, pooled. Runs on the CPU, one utterance after the other, so batches do not matter."""

    layer_names = ("mfcc",)
    frame_rate_hz = SAMPLING_RATE / FRAME_STEP
    min_samples = FRAME_LENGTH

    def __init__(self, view: MFCCView, *, device: str, batch_s: float | None, folder: Path = Path()):
        self._view = view
        self._filters = mel_filters(view.num_mel_bands)
        self.frame_layers = view.frames
        self.dim = view.num_coefficients * (2 if view.statistics == "mean_sd" else 1)

    @property
    def frame_dim(self) -> int:
        """Number of coefficients; half of `dim` where the standard deviation is pooled too."""
        return self._view.num_coefficients

    @property
    def fingerprint(self) -> dict[str, object]:
        """See `Extractor.fingerprint`. There are no weights: the constants of this file stand in their place."""
        return {
            "family": "mfcc",
            "source": None,
            "revision": None,
            "weights": None,
            "preprocessing": (
                f"{SAMPLING_RATE} Hz mono; Hamming {FRAME_LENGTH}/{FRAME_STEP}, FFT {N_FFT}; "
                f"{self._view.num_mel_bands} mel bands; {self._view.num_coefficients} coefficients"
            ),
            "masking": "one utterance at a time",
            "compute_dtype": "float32",
            "layers": list(self.layer_names),
            "frames": list(self.frame_layers),
            "pooling": {"mean": "mean", "mean_sd": "mean and standard deviation"}[self._view.statistics],
        }

    def _extract(self, waveforms: Sequence[np.ndarray]) -> list[HiddenStates]:
        return [self._pool(waveform) for waveform in waveforms]

    def _pool(self, waveform: Float[np.ndarray, " samples"]) -> HiddenStates:
        total = squares = 0.0
        num_frames, kept = 0, []
        for block in self._coefficients(waveform):
            num_frames += len(block)
            # In float64 and not far from zero, so that the difference of squares below loses nothing that matters.
            total = total + block.sum(axis=0)
            squares = squares + (block**2).sum(axis=0)
            if self.frame_layers:
                kept.append(block.astype(np.float32))
        mean = total / num_frames
        statistics = [mean]
        if self._view.statistics == "mean_sd":
            statistics.append(np.sqrt(np.maximum(squares / num_frames - mean**2, 0.0)))
        pooled = np.concatenate(statistics).astype(np.float32)[None]
        return HiddenStates(pooled, num_frames, {name: np.concatenate(kept) for name in self.frame_layers})

    def _coefficients(self, waveform: Float[np.ndarray, " samples"]) -> Iterator[np.ndarray]:
        """MFCCs float64 [frames, coefficients] of a waveform, block by block."""
        frames = np.lib.stride_tricks.sliding_window_view(waveform, FRAME_LENGTH)[::FRAME_STEP]
        window = np.hamming(FRAME_LENGTH + 1)[:-1]  # periodic
        for start in range(0, len(frames), _BLOCK_FRAMES):
            spectrum = rfft(frames[start : start + _BLOCK_FRAMES] * window, N_FFT, axis=1)
            energies = (spectrum.real**2 + spectrum.imag**2) @ self._filters
            cepstrum = dct(np.log(np.maximum(energies, _FLOOR)), type=2, norm="ortho", axis=1)
            yield cepstrum[:, : self._view.num_coefficients]


def mel_filters(num_bands: int) -> Float64[np.ndarray, "bins {num_bands}"]:
    """Triangular filters, equally spaced and half overlapping on the mel scale, each with peak one."""
    top = 2595.0 * np.log10(1.0 + SAMPLING_RATE / 2 / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(0.0, top, num_bands + 2) / 2595.0) - 1.0)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    frequencies = np.linspace(0.0, SAMPLING_RATE / 2, N_FFT // 2 + 1)[:, None]
    rising, falling = (frequencies - lower) / (centre - lower), (upper - frequencies) / (upper - centre)
    return np.maximum(0.0, np.minimum(rising, falling))
