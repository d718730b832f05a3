import zipfile
from pathlib import Path

import numpy as np
import pytest

from strata.store import FeatureStore

LAYERS, DIM, FRAME_DIM, BLOCK = ("0", "1", "2"), 7, 5, 11  # distinct primes: swapped axes cannot pass


class Small:
    """A small store's shape, and rows for it."""

    layers, dim, frame_dim, block_rows = LAYERS, DIM, FRAME_DIM, BLOCK

    @staticmethod
    def create(path, **changes) -> FeatureStore:
        """An empty store that keeps the frames of layer 1."""
        options = {
            "fingerprint": {"family": "test", "layers": ("0", "1")},
            "layer_names": LAYERS,
            "dim": DIM,
            "frame_layers": ("1",),
            "frame_dim": FRAME_DIM,
            "block_rows": BLOCK,
        }
        return FeatureStore.create(path, **options | changes)

    @staticmethod
    def rows(count: int, seed: int = 0):
        """Keys, pooled values, frame counts and frames of `count` utterances; a few have no frame at all."""
        rng = np.random.default_rng(seed)
        counts = rng.integers(0, 5, count)
        frames = [rng.normal(size=(n, FRAME_DIM)).astype(np.float32) for n in counts]
        pooled = rng.normal(size=(count, len(LAYERS), DIM)).astype(np.float32)
        return [f"{seed}/{i}" for i in range(count)], pooled, counts, {"1": frames}

    @staticmethod
    def assert_holds(store: FeatureStore, *parts) -> None:
        """Every value of these rows, bit for bit, whatever the order of the rows, and no other row."""
        assert sorted(store.keys) == sorted(key for part in parts for key in part[0])
        for keys, pooled, counts, frames in parts:
            np.testing.assert_array_equal(store.pooled(keys), pooled)
            np.testing.assert_array_equal(store.num_frames(keys), counts)
            for found, expected in zip(store.frames(keys, "1"), frames["1"], strict=True):
                np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="session")
def small():
    return Small


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path):
    """Where a store may lie; what holds for one must hold for the other. The bucket is a folder behind obstore."""
    if request.param == "bucket":
        pytest.importorskip("obstore", reason="pip install 'strata-speech[objects]'")
        return f"file://{tmp_path}/view.zarr"
    return tmp_path / "view.zarr"


@pytest.fixture
def store(tmp_path):
    return Small.create(tmp_path / "view.zarr")


@pytest.fixture
def old_store(tmp_path) -> Path:
    """A store that the code of format 1 wrote."""
    with zipfile.ZipFile(Path(__file__).with_name("format1.zip")) as archive:
        archive.extractall(tmp_path)
    return tmp_path / "view.zarr"
