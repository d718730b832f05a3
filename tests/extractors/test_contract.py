"""Every family keeps the one promise: a cached value is a function of the utterance alone."""

import json

import numpy as np
import pytest

import extractors
from extractors.contract import UnusableAudio

GROUP_NORM = ("wav2vec2", "hubert", "wavlm", "unispeech-sat")
LAYER_NORM = ("xls-r", "mms", "hubert-large", "wavlm-large")
VIEWS = {
    **{name: {"family": "transformers", "source": f"miniature:{name}"} for name in (*GROUP_NORM, *LAYER_NORM)},
    "whisper": {"family": "transformers", "source": "miniature:whisper"},
    "xvector": {"family": "speechbrain", "source": "miniature:xvector"},
    "trillsson": {"family": "tfhub", "source": "miniature:trillsson"},
    "mfcc": {"family": "mfcc"},
}


@pytest.fixture(params=VIEWS)
def view(request):
    """The view of each family and, for transformers, of each way to normalise."""
    if VIEWS[request.param]["family"] == "tfhub":
        pytest.importorskip("tensorflow", reason="needs the extra tfhub")
    return VIEWS[request.param]


@pytest.fixture
def extractor(view, load):
    """Its extractor."""
    return load(**view)


def test_alone_is_as_in_a_padded_batch(extractor, sounds, relative_error):
    """An utterance's layers are the same alone as beside longer and shorter ones."""
    for one, together in zip(sounds, extractor.extract(sounds, 16_000), strict=True):
        alone = extractor.extract([one], 16_000)[0]
        assert relative_error(together.pooled, alone.pooled) < 1e-4
        assert together.num_frames == alone.num_frames


def test_order_and_batch_size_do_not_matter(view, extractor, sounds, relative_error):
    """Results come in the order of the waveforms, and are the same whatever that order and the size of the batches."""
    expected = extractor.extract(sounds, 16_000)
    backwards = extractor.extract(sounds[::-1], 16_000)[::-1]
    one_by_one = extractors.load(view, device="cpu", batch_s=0.1).extract(sounds, 16_000)
    for other in (backwards, one_by_one):
        for found, right in zip(other, expected, strict=True):
            assert relative_error(found.pooled, right.pooled) < 1e-4


def test_hands_over_what_it_says(extractor, sounds):
    """Shapes, types and numbers of frames are those that the extractor announces."""
    for waveform, states in zip(sounds, extractor.extract(sounds, 16_000), strict=True):
        assert states.pooled.dtype == np.float32
        assert states.pooled.shape == (len(extractor.layer_names), extractor.dim)
        assert states.num_frames == pytest.approx(len(waveform) / 16_000 * extractor.frame_rate_hz, abs=3)
        assert states.frames == {}


def test_different_sounds_differ(extractor, sounds, relative_error):
    """Random weights still tell sounds apart, in every layer: more than a hundred times the promised precision."""
    first, second = extractor.extract(sounds[:2], 16_000)
    for layer in range(len(extractor.layer_names)):
        assert relative_error(first.pooled[layer : layer + 1], second.pooled[layer : layer + 1]) > 1e-2


def test_shortest_audio_and_one_sample_less(extractor, sound):
    """At `min_samples` there is a value; one sample below there is a reason, the same that `unusable` gives."""
    shortest = sound(extractor.min_samples)
    assert np.isfinite(extractor.extract([shortest], 16_000)[0].pooled).all()
    too_short = shortest[:-1]
    reason = extractor.unusable(too_short, 16_000)
    assert reason == "empty" if extractor.min_samples == 1 else "too short for the model" in reason
    with pytest.raises(UnusableAudio, match=reason):
        extractor.extract([sound(16_001), too_short], 16_000)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_audio_is_refused(extractor, value, sound):
    """A single sample that is not a number is a reason, not a layer of NaN."""
    spoilt = sound(16_001)
    spoilt[4_999] = value
    with pytest.raises(UnusableAudio, match="not finite"):
        extractor.extract([spoilt], 16_000)


def test_silence_is_finite(extractor):
    """All zeros are not for the extractor to refuse, and never give NaN."""
    assert np.isfinite(extractor.extract([np.zeros(16_001, np.float32)], 16_000)[0].pooled).all()


def test_other_sampling_rates_are_resampled(extractor, relative_error):
    """The same sound at 48 kHz and at 16 kHz gives nearly the same values, and not those of a sound three times as
    long."""
    time = np.arange(3 * 16_001) / 48_000
    at_48k = np.sin(2 * np.pi * 440 * time).astype(np.float32) * 0.3
    found = extractor.extract([at_48k], 48_000)[0]
    expected = extractor.extract([at_48k[::3]], 16_000)[0]
    assert found.num_frames == expected.num_frames
    assert relative_error(found.pooled, expected.pooled) < 0.2


def test_fingerprint_is_json_and_blind_to_speed(view, extractor):
    """Batch size is no part of the fingerprint; what the contract lists is."""
    fingerprint = json.loads(json.dumps(extractor.fingerprint))
    assert fingerprint == extractors.load(view, device="cpu", batch_s=1.0).fingerprint
    assert fingerprint.keys() >= {
        "family", "source", "revision", "weights", "preprocessing", "masking", "compute_dtype", "layers", "frames",
        "pooling",
    }  # fmt: skip


def test_fingerprints_tell_views_apart(load):
    """No two of these views share a fingerprint, nor do views that differ in one setting."""
    pytest.importorskip("tensorflow", reason="needs the extra tfhub")
    source = {"family": "transformers", "source": "miniature:wavlm"}
    views = [
        *VIEWS.values(),
        source | {"layers": {"upto": 2}},
        source | {"layers": [0, 2]},
        source | {"frames": [1]},
        source | {"window_s": 30},
        source | {"overlap_s": 2},
        {"family": "mfcc", "num_coefficients": 13},
        {"family": "mfcc", "statistics": "mean"},
        {"family": "mfcc", "frames": ["mfcc"]},
        {"family": "mfcc", "num_mel_bands": 64},
    ]
    fingerprints = [json.dumps(load(**view).fingerprint, sort_keys=True) for view in views]
    assert len(set(fingerprints)) == len(views)
