"""Stores of a study: all that they hold, and when two are the same."""

import numpy as np

from strata.store import FeatureStore


def opened(study, view: str) -> FeatureStore:
    return FeatureStore.open(study.folder / f"features/{view}.zarr")


def values(store: FeatureStore) -> dict[str, tuple]:
    """All that a store holds of each key."""
    frames = [store.frames(store.keys, layer) for layer in store.header.frame_layers]
    rows = zip(store.keys, store.pooled(), store.num_frames(), *frames, strict=True)
    return {key: arrays for key, *arrays in rows}


def assert_same(found: FeatureStore, expected: FeatureStore, rtol: float = 0.0) -> None:
    found, expected = values(found), values(expected)
    assert found.keys() == expected.keys()
    for key, arrays in expected.items():
        for one, other in zip(found[key], arrays, strict=True):
            scale = np.abs(other).max() if np.size(other) else 0.0
            np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * scale)
