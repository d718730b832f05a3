"""Stores that earlier versions wrote (kept as archives beside this file)."""

import numpy as np
import pytest

from strata.store import FeatureStore


def expected(seed: int, count: int):
    """What the archive was made of."""
    counts = [(i * 2 + seed) % 4 for i in range(count)]
    pooled = np.arange(count * 9, dtype=np.float32).reshape(count, 3, 3) / 8 + seed * 100
    frames = [np.full((n, 2), i + seed * 10, np.float32) + np.arange(n)[:, None] / 4 for i, n in enumerate(counts)]
    return [f"{seed}/{i}" for i in range(count)], pooled, counts, {"1": frames}


def test_a_store_of_format_1_still_opens(old_store, small):
    """With every value, and nothing of it is written for that."""
    before = {path: path.read_bytes() for path in old_store.rglob("*") if path.is_file()}
    store = FeatureStore.open(old_store)
    assert store.header.format == 1
    assert store.verify() == []
    small.assert_holds(store, expected(1, 7), expected(2, 3))
    assert {path: path.read_bytes() for path in old_store.rglob("*") if path.is_file()} == before


def test_a_store_of_format_1_becomes_format_2_when_it_is_appended_to(old_store, small):
    """Old rows and new ones, whole by the stricter checks of format 2."""
    new = expected(3, 4)
    FeatureStore.open(old_store).append(*new)
    store = FeatureStore.open(old_store)
    assert store.header.format == 2
    assert store.verify() == []
    small.assert_holds(store, expected(1, 7), expected(2, 3), new)


def test_a_conversion_that_is_cut_short_is_done_again(old_store, small, monkeypatch):
    """The header is written last."""
    store = FeatureStore.open(old_store)
    write = store.storage.write

    def fail_at_the_header(name, data):
        if name == "zarr.json":
            raise OSError("power cut")
        write(name, data)

    monkeypatch.setattr(store.storage, "write", fail_at_the_header)
    with pytest.raises(OSError, match="power cut"):
        store.append(*expected(3, 4))
    FeatureStore.open(old_store).append(*expected(3, 4))
    store = FeatureStore.open(old_store)
    assert store.verify() == []
    small.assert_holds(store, expected(1, 7), expected(2, 3), expected(3, 4))
