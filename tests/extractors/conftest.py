"""Shared by the extractors' tests: no hub, a cache of their own, one thread, sounds of prime lengths."""

import os

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported: before any test


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Miniatures are made anew, once for the whole run; one thread is quickest for models this small."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def load():
    """`extractors.load` on the CPU, each view loaded once for the whole run, its batches large enough for all `sounds`
    to be padded together."""
    import extractors

    cache = {}

    def load(**view):
        key = repr(sorted(view.items()))
        if key not in cache:
            cache[key] = extractors.load(view, device="cpu", batch_s=30.0)
        return cache[key]

    return load


def make_sound(num_samples: int, seed: int = 0) -> np.ndarray:
    """A tone with harmonics, vibrato, noise and an offset, float32 [samples]: no two seeds sound alike."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_samples) / 16_000
    phase = 2 * np.pi * rng.uniform(90, 400) * time + np.sin(2 * np.pi * 5 * time)
    tone = sum(np.sin(k * phase) / k for k in range(1, 6))
    return (rng.uniform(0.02, 0.3) * tone + 0.02 * rng.standard_normal(num_samples) + 0.01).astype(np.float32)


@pytest.fixture(scope="session")
def sounds():
    """Five sounds whose lengths are distinct primes, so that no two of them happen to pad alike."""
    return [make_sound(n, seed=n) for n in (16_001, 4_801, 31_991, 7_919, 23_993)]


@pytest.fixture(scope="session")
def sound():
    """The function `make_sound`."""
    return make_sound


@pytest.fixture(scope="session")
def relative_error():
    """Largest error of any layer, relative to the layer's largest value; of arrays [layers, dim]."""

    def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
        assert found.shape == expected.shape
        return float((np.abs(found - expected).max(axis=-1) / np.abs(expected).max(axis=-1)).max())

    return relative_error
