"""MFCCs against transformers' filterbank, and their pooling against NumPy."""

import numpy as np
from scipy.fft import dct

from strata.extractors import mfcc
from strata.extractors.torch_setup import without_compiled_torchaudio

without_compiled_torchaudio()
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function  # noqa: E402  (imports torchaudio)


def test_filters_are_those_of_transformers():
    """The triangles on the HTK mel scale, not normalised."""
    expected = mel_filter_bank(257, 40, 0.0, 8_000.0, 16_000, norm=None, mel_scale="htk")
    np.testing.assert_allclose(mfcc.mel_filters(40), expected, atol=1e-9)


def test_coefficients_are_those_of_an_independent_path(load, sound):
    """Log-mel energies by transformers' spectrogram, then SciPy's DCT."""
    waveform = sound(7_919)
    log_mel = spectrogram(
        waveform.astype(np.float64),
        window_function(400, "hamming"),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        mel_filters=mel_filter_bank(257, 40, 0.0, 8_000.0, 16_000, norm=None, mel_scale="htk"),
        mel_floor=1e-10,
        dtype=np.float64,
    )
    expected = dct(np.log(log_mel.T), norm="ortho")
    found = load(family="mfcc", frames=["mfcc"]).extract([waveform], 16_000)[0].frames["mfcc"]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_statistics_are_those_of_the_frames(load, sound):
    """Mean, then standard deviation; over blocks as over the whole."""
    extractor = load(family="mfcc", num_coefficients=13, frames=["mfcc"])
    states = extractor.extract([sound(16_001)], 16_000)[0]
    frames = states.frames["mfcc"]
    assert frames.shape == (states.num_frames, extractor.frame_dim) == (98, 13)
    assert states.pooled.shape == (1, extractor.dim) == (1, 26)
    np.testing.assert_allclose(states.pooled[0], np.concatenate([frames.mean(0), frames.std(0)]), rtol=1e-3, atol=1e-4)
    only_mean = load(family="mfcc", num_coefficients=13, statistics="mean").extract([sound(16_001)], 16_000)[0]
    np.testing.assert_array_equal(only_mean.pooled[0], states.pooled[0, :13])


def test_blocks_leave_no_seam(load, sound, monkeypatch):
    """Long audio goes through in blocks, with the same result."""
    extractor, waveform = load(family="mfcc", frames=["mfcc"]), sound(31_991)
    whole = extractor.extract([waveform], 16_000)[0]
    monkeypatch.setattr(mfcc, "_BLOCK_FRAMES", 17)
    pieces = extractor.extract([waveform], 16_000)[0]
    np.testing.assert_allclose(pieces.pooled, whole.pooled, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(pieces.frames["mfcc"], whole.frames["mfcc"])
