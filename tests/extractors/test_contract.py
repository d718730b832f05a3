"""Every family keeps the one promise: a cached value is a function of the utterance alone."""

import json

import numpy as np
import pytest

from strata import extractors


def test_alone_is_as_in_a_padded_batch(extractor, sounds, assert_same):
    """Every layer of an utterance is the same alone as beside longer and shorter ones."""
    for one, together in zip(sounds, extractor.extract(sounds, 16_000), strict=True):
        assert_same(together, extractor.extract([one], 16_000)[0], extractor.layer_names)


@pytest.mark.parametrize(
    ("batch_s", "order"),
    [(0.1, [2, 0, 4, 1, 3]), (2.5, [4, 3, 2, 1, 0]), pytest.param(1e3, [1, 4, 0, 3, 2], marks=pytest.mark.slow)],
)
def test_order_and_batch_size_do_not_matter(view, extractor, sounds, assert_same, batch_s, order):
    """Results come in the order of the waveforms, and are the same in every layer whatever that order and the size of
    the batches: one by one, two or three at a time, all at once."""
    expected = extractor.extract(sounds, 16_000)
    other = extractors.load(view, device="cpu", batch_s=batch_s)
    for index, found in zip(order, other.extract([sounds[index] for index in order], 16_000), strict=True):
        assert_same(found, expected[index], extractor.layer_names)


def test_equal_lengths_share_a_batch_unmixed(extractor, sound, assert_same):
    """Utterances of one length, which every family may batch, keep to themselves."""
    sounds = [sound(9_973, seed=seed) for seed in range(3)]
    for one, together in zip(sounds, extractor.extract(sounds, 16_000), strict=True):
        assert_same(together, extractor.extract([one], 16_000)[0], extractor.layer_names)


def test_no_waveforms_no_results(extractor):
    """An empty list is no error."""
    assert extractor.extract([], 16_000) == []


def test_hands_over_what_it_says(extractor, sounds, grid_frames):
    """Shapes, types and numbers of frames are those that the extractor announces."""
    for waveform, states in zip(sounds, extractor.extract(sounds, 16_000), strict=True):
        assert states.pooled.dtype == np.float32
        assert states.pooled.shape == (len(extractor.layer_names), extractor.dim)
        assert states.num_frames == grid_frames(extractor, len(waveform))
        assert states.frames == {}


def test_different_sounds_differ(extractor, sounds, relative_error):
    """Random weights still tell sounds apart, in every layer: more than a hundred times the promised precision."""
    first, second = extractor.extract(sounds[:2], 16_000)
    for layer in range(len(extractor.layer_names)):
        assert relative_error(first.pooled[layer : layer + 1], second.pooled[layer : layer + 1]) > 1e-2


def test_fingerprint_is_json_and_blind_to_speed(view, extractor):
    """Batch size is no part of the fingerprint; what the contract lists is."""
    fingerprint = json.loads(json.dumps(extractor.fingerprint))
    assert fingerprint == extractors.load(view, device="cpu", batch_s=1.0).fingerprint
    assert fingerprint.keys() >= {
        "family", "source", "revision", "weights", "preprocessing", "masking", "compute_dtype", "layers", "frames",
        "pooling",
    }  # fmt: skip


def test_fingerprints_tell_views_apart(load, views, need_extra):
    """No two of these views share a fingerprint, nor do views that differ in one setting."""
    for view in views.values():
        need_extra(view["family"])
    source = {"family": "transformers", "source": "miniature:wavlm"}
    different = [
        *views.values(),
        source | {"layers": {"upto": 2}},
        source | {"layers": [0, 2]},
        source | {"frames": [1]},
        source | {"window_s": 30},
        source | {"overlap_s": 2},
        {"family": "mfcc", "num_coefficients": 13},
        {"family": "mfcc", "statistics": "mean"},
        {"family": "mfcc", "frames": ["mfcc"]},
        {"family": "mfcc", "num_mel_bands": 64},
        {"family": "opensmile", "frames": ["lld"]},
    ]
    fingerprints = [json.dumps(load(**view).fingerprint, sort_keys=True) for view in different]
    assert len(set(fingerprints)) == len(different)
