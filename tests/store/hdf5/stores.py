"""Stores to export, and when two are the same."""

import numpy as np

from strata.store import FeatureStore

LAYERS, DIM, FRAME_DIM, BLOCK = ("0", "1", "last_hidden_state"), 7, 5, 11  # distinct primes: swapped axes cannot pass
HEADER = ("fingerprint", "layer_names", "frame_layers", "dim", "frame_dim", "frame_rate_hz", "block_rows", "format")
DATASETS = ("key", "pooled", "num_frames", "frames_start", "frames/1", "crc32", "layer_names", "frame_layers")


def create(path, **changes):
    options = {
        "fingerprint": {"family": "test", "layers": ["0", "1"], "größe": 0.1, "nested": {"revision": None}},
        "layer_names": LAYERS,
        "dim": DIM,
        "frame_rate_hz": 49.95,
        "frame_layers": ("last_hidden_state", "1"),
        "frame_dim": FRAME_DIM,
        "block_rows": BLOCK,
    }
    return FeatureStore.create(path, **options | changes)


def fill(store, count, seed=0):
    """Appends `count` rows; a few have no frame at all."""
    rng, header = np.random.default_rng(seed), store.header
    counts = rng.integers(0, 5, count)
    frames = {
        layer: [rng.normal(size=(n, header.frame_dim)).astype(np.float32) for n in counts]
        for layer in header.frame_layers
    }
    pooled = rng.normal(size=(count, len(header.layer_names), header.dim)).astype(np.float32)
    store.append([f"{seed}/ä{i}" for i in range(count)], pooled, counts, frames)
    return store


def assert_same(found, expected):
    """To the bit: headers, keys in order, values, counts and frames."""
    for name in HEADER:
        assert getattr(found.header, name) == getattr(expected.header, name)
    keys = expected.keys
    assert found.keys == keys
    assert found.pooled().tobytes() == expected.pooled().tobytes()
    assert found.num_frames().tolist() == expected.num_frames().tolist()
    for layer in expected.header.frame_layers:
        pairs = zip(found.frames(keys, layer), expected.frames(keys, layer), strict=True)
        assert all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)
