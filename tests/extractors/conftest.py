"""Shared by the extractors' tests: no hub, a cache of their own, one thread, sounds of prime lengths."""

import os
from importlib.util import find_spec

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported: before any test

GROUP_NORM = ("wav2vec2", "hubert", "wavlm", "unispeech-sat")
LAYER_NORM = ("xls-r", "mms", "hubert-large", "wavlm-large")
VIEWS = {
    **{name: {"family": "transformers", "source": f"miniature:{name}"} for name in (*GROUP_NORM, *LAYER_NORM)},
    "whisper": {"family": "transformers", "source": "miniature:whisper"},
    "emotion": {
        "family": "transformers",
        "source": "miniature:emotion",
        "layers": ["last_hidden_state"],
        "logits": True,
    },
    "xvector": {"family": "speechbrain", "source": "miniature:xvector"},
    "trillsson": {"family": "tfhub", "source": "miniature:trillsson"},
    "mfcc": {"family": "mfcc"},
    "egemaps": {"family": "opensmile"},
    "compare": {"family": "opensmile", "feature_set": "ComParE_2016"},
}
EXTRAS = {"tfhub": "tensorflow", "opensmile": "opensmile"}
"""Families of an optional extra, and the library that it installs."""


@pytest.fixture(scope="session")
def views():
    """All views that the contract suite holds to the contract, by name."""
    return VIEWS


@pytest.fixture(scope="session")
def need_extra():
    """Skips where a family's library is not installed. Does not import it: how that is done is the extractor's."""

    def need_extra(family):
        if family in EXTRAS and find_spec(EXTRAS[family]) is None:
            pytest.skip(f"needs the extra {family}")

    return need_extra


@pytest.fixture(params=VIEWS)
def view(request, need_extra):
    """The view of each family and, for transformers, of each way to normalise."""
    need_extra(VIEWS[request.param]["family"])
    return VIEWS[request.param]


@pytest.fixture
def extractor(view, load):
    """Its extractor."""
    return load(**view)


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
    from strata import extractors

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
    """Largest error of any layer, relative to the layer's largest value; of arrays [layers, dim]. Where all values are
    to be zero, as some layers' are for silence, any other is beyond bounds."""

    def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
        assert found.shape == expected.shape
        largest = np.maximum(np.abs(expected).max(axis=-1), 1e-30)
        return float((np.abs(found - expected).max(axis=-1) / largest).max())

    return relative_error


@pytest.fixture(scope="session")
def assert_same(relative_error):
    """Asserts that hidden states are those expected, layer by layer, to within the promised 1e-4; the message names the
    layer that is worst."""

    def assert_same(found, expected, layer_names, tolerance=1e-4):
        assert found.num_frames == expected.num_frames
        assert np.isfinite(found.pooled).all()
        pairs = zip(found.pooled[:, None], expected.pooled[:, None], strict=True)
        errors = dict(zip(layer_names, (relative_error(*pair) for pair in pairs), strict=True))
        worst = max(errors, key=errors.get)
        assert errors[worst] < tolerance, f"layer {worst} is off by {errors[worst]:.1e}"

    return assert_same


@pytest.fixture(scope="session")
def grid_frames():
    """How many frames an extractor's grid has on so many samples at 16 kHz: none where the model has no frames."""

    def grid_frames(extractor, num_samples):
        if not extractor.frame_rate_hz:
            return 0
        return (num_samples - extractor.min_samples) // round(16_000 / extractor.frame_rate_hz) + 1

    return grid_frames
