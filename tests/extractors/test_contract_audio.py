"""Every family keeps its promise for whatever audio may look like: very short, long, silent, clipped, of any rate."""

import numpy as np
import pytest
import soundfile

from strata import extractors
from strata.extractors.audio import read
from strata.extractors.contract import UnusableAudio

PIECES = {"speechbrain": ("_CHUNK_FRAMES", 200), "tfhub": ("WINDOW_S", 2.0), "mfcc": ("_BLOCK_FRAMES", 200)}
"""What bounds the memory of families whose view has no `window_s`, set to two seconds."""

EACH_NORMALISATION = ("miniature:wav2vec2", "miniature:xls-r", "miniature:whisper")
"""One model with group norm, one with layer norm, one with a spectrogram of thirty seconds."""

RATES = (8_000, 22_050, 44_100, 48_000)


def lowest(view):
    """What cuts a model after its first layer, for speed; logits need all of it."""
    return {} if view.get("logits") else {"layers": {"upto": 1}}


def test_shortest_audio_and_one_sample_less(extractor, sound):
    """At `min_samples` there is a value; one sample below there is a reason, the same that `unusable` gives."""
    shortest = sound(extractor.min_samples)
    assert np.isfinite(extractor.extract([shortest], 16_000)[0].pooled).all()
    too_short = shortest[:-1]
    reason = extractor.unusable(too_short, 16_000)
    assert reason == "empty" if extractor.min_samples == 1 else "too short for the model" in reason
    with pytest.raises(UnusableAudio, match=reason):
        extractor.extract([sound(16_001), too_short], 16_000)


def test_very_short_audio_beside_longer(extractor, sound, assert_same, grid_frames):
    """A frame or two are the same alone as beside a second of another sound."""
    lengths = [extractor.min_samples + more for more in (0, 1, 319, 320, 321)]
    sounds = [*(sound(length, seed=length) for length in lengths), sound(16_001)]
    for one, together in zip(sounds, extractor.extract(sounds, 16_000), strict=True):
        assert_same(together, extractor.extract([one], 16_000)[0], extractor.layer_names)
        assert together.num_frames == grid_frames(extractor, len(one))


def test_lengths_around_the_borders_of_windows(view, load, sound, assert_same, grid_frames, monkeypatch):
    """Where the first window is full, and where two are, one sample more or less loses no frame and mixes nothing; what
    fits into one window is as it is without windows."""
    windows = {}
    if view["family"] == "transformers":
        windows = {"window_s": 2.0, "overlap_s": 1.0}
        view = view | lowest(view)
    elif view["family"] in PIECES:
        name, value = PIECES[view["family"]]
        monkeypatch.setattr(f"strata.extractors.{view['family']}.{name}", value)
    extractor = load(**view, **windows)
    # Two windows of 99 frames that share 50 are full at 148 frames, which are 47,440 to 47,759 samples.
    lengths = [border + more for border in (32_000, 47_760) for more in (-1, 0, 1)]
    sounds = [sound(length, seed=length) for length in lengths]
    for one, together in zip(sounds, extractor.extract(sounds, 16_000), strict=True):
        assert_same(together, extractor.extract([one], 16_000)[0], extractor.layer_names)
        assert together.num_frames == grid_frames(extractor, len(one))
        if windows and len(one) <= 32_000:
            assert_same(together, load(**view).extract([one], 16_000)[0], extractor.layer_names, tolerance=1e-5)


@pytest.mark.parametrize("seconds", [120, pytest.param(600, marks=pytest.mark.slow)])
def test_minutes_of_audio(view, seconds, sound, assert_same, grid_frames):
    """Two minutes, or ten, beside a short sound: every frame is there and is pooled, and either is as alone. Since the
    minutes repeat ten seconds, they say nearly what half a minute of them says."""
    if view["family"] == "opensmile":  # a quick one of its sets is enough for minutes
        seconds, view = (60, view) if view.get("feature_set") else (seconds, view | {"feature_set": "IS09"})
    repeated, short = np.resize(sound(159_979), seconds * 16_000 + 317), sound(7_919)
    if view["family"] == "transformers":
        # Whisper's windows cost thirty seconds, however short they are.
        windows = {} if view["source"].endswith("whisper") else {"window_s": 10, "overlap_s": 1}
        view = view | windows | lowest(view) | {"frames": ["last_hidden_state" if view.get("logits") else 1]}
    elif view["family"] == "mfcc":
        view = view | {"frames": ["mfcc"]}
    extractor = extractors.load(view, device="cpu", batch_s=30.0)
    long, beside = extractor.extract([repeated, short], 16_000)
    assert long.num_frames == grid_frames(extractor, len(repeated))
    for name, frames in long.frames.items():
        assert frames.shape == (long.num_frames, extractor.frame_dim)
        pooled = long.pooled[extractor.layer_names.index(name), : extractor.frame_dim]
        np.testing.assert_allclose(frames.mean(axis=0, dtype=np.float64), pooled, atol=1e-4 * np.abs(pooled).max())
    assert_same(beside, extractor.extract([short], 16_000)[0], extractor.layer_names)
    if view["family"] == "opensmile":
        assert np.isfinite(long.pooled).all()
        return  # it computes one recording after the other, and counts of a whole are not those of a part
    if view["family"] != "transformers" or view["source"] in EACH_NORMALISATION:
        assert_same(long, extractor.extract([repeated], 16_000)[0], extractor.layer_names)
    part = extractor.extract([repeated[: 3 * 159_979]], 16_000)[0]
    error = np.abs(long.pooled - part.pooled).max(axis=1) / np.abs(part.pooled).max(axis=1)
    assert error.max() < (0.1 if seconds == 600 else 0.2)  # a last, short window weighs more among fewer


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_audio_is_refused(extractor, value, sound):
    """A single sample that is not a number is a reason, not a layer of NaN."""
    spoilt = sound(16_001)
    spoilt[4_999] = value
    with pytest.raises(UnusableAudio, match="not finite"):
        extractor.extract([sound(4_801), spoilt], 16_000)


def test_silent_and_clipped_audio(extractor, sound, assert_same):
    """Silence, a square at full scale, and values far beyond it are not for the extractor to refuse: they never give
    NaN, and neither do they mix with what shares their batch."""
    square = np.sign(np.sin(2 * np.pi * 220 / 16_000 * np.arange(16_001))).astype(np.float32)
    sounds = [np.zeros(12_007, np.float32), square, np.clip(30 * sound(9_973), -1, 1), 30 * sound(14_009), sound(7_919)]
    for one, together in zip(sounds, extractor.extract(sounds, 16_000), strict=True):
        assert_same(together, extractor.extract([one], 16_000)[0], extractor.layer_names)


@pytest.mark.parametrize("rate", RATES)
def test_other_sampling_rates(extractor, rate, assert_same):
    """A sound that was sampled at another rate gives nearly the values of the same sound at 16 kHz."""

    def chord(rate):
        time = np.arange(16_000 * rate // 16_000) / rate
        parts = (np.sin(2 * np.pi * hz * time + hz) / part for part, hz in enumerate((220, 440, 900, 1_700, 3_200), 1))
        return (0.2 * sum(parts)).astype(np.float32)

    found, expected = extractor.extract([chord(rate)], rate)[0], extractor.extract([chord(16_000)], 16_000)[0]
    assert_same(found, expected, extractor.layer_names, tolerance=0.05)


@pytest.mark.parametrize(
    ("name", "rate", "subtype", "channels"),
    [("a.wav", 8_000, "FLOAT", 1), ("a.flac", 22_050, "PCM_24", 2), ("a.wav", 44_100, "PCM_16", 2),
     ("a.wav", 48_000, "PCM_32", 1)],
)  # fmt: skip
def test_files_give_what_arrays_give(extractor, sound, assert_same, tmp_path, name, rate, subtype, channels):
    """A file of any rate, format and number of channels has the values of the mean of its channels as an array."""
    samples = np.stack([sound(rate * 3 // 4, seed=seed) for seed in range(channels)], axis=1)
    soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
    found = extractor.extract([read(tmp_path / name)], 16_000)[0]
    expected = extractor.extract([samples.mean(axis=1)], rate)[0]
    assert_same(found, expected, extractor.layer_names, tolerance=2e-3 if subtype == "PCM_16" else 1e-4)
