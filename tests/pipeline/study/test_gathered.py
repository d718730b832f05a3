"""Cached vectors for training: gathered once, gone at the end, and read from the store where there is no room."""

import pickle

import numpy as np
import pytest

from strata.pipeline.study.gathered import Gathered
from strata.store import FeatureStore
from strata.trainers.inputs import mapped
from strata.trainers.inputs.batches import batches

LAYERS, DIM, ROWS = ["0", "1", "2"], 5, 23
KEYS = [f"{(7 * row) % ROWS:02d}key" for row in range(ROWS)]
VALUES = np.random.default_rng(0).normal(size=(ROWS, len(LAYERS), DIM)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    store = FeatureStore.create(
        tmp_path / "features" / "v.zarr", fingerprint={"a": 1}, layer_names=LAYERS, dim=DIM, block_rows=4
    )
    store.append(KEYS, VALUES, np.ones(ROWS, int))
    return store


@pytest.fixture(params=["room", "memory", "neither"])
def gathered(request, tmp_path, monkeypatch):
    """With a file of values, or none since the disk is full, with and without memory for them."""
    if request.param != "room":
        monkeypatch.setattr(mapped, "SPARE_BYTES", 2**62)
    if request.param == "neither":
        monkeypatch.setattr("strata.pipeline.study.gathered.memory_bytes", lambda: 0)
    gathered = Gathered(tmp_path)
    yield gathered
    gathered.close()
    assert not [path for path in (tmp_path / ".strata").rglob("*") if path.is_file()]


def test_every_utterance_has_its_values(gathered, store):
    """Utterances that share a row, layers in another order, in this process and in another."""
    wanted = [5, 3, 5, 22, 0]
    view = gathered.pooled("v", store, ["2", "0"], [KEYS[row] for row in wanted], KEYS[:7])
    for each in (view, pickle.loads(pickle.dumps(view))):
        np.testing.assert_array_equal(each.take(np.arange(5))[0], VALUES[wanted][:, [2, 0]])
        np.testing.assert_array_equal(each.select([1]).take(np.array([3, 3]))[0], VALUES[[22, 22]][:, [0]])


def test_what_is_asked_for_together_is_gathered_once(gathered, store):
    """The cells of a grid, and whoever asks for some of their utterances; who asks for others has them gathered too."""
    first = gathered.pooled("v", store, LAYERS, KEYS[:3], KEYS[:9])
    assert gathered.pooled("v", store, LAYERS, KEYS[6:9], KEYS[:9]).values is first.values
    other = gathered.pooled("v", store, LAYERS, KEYS[8:11])
    assert other.values is not first.values
    np.testing.assert_array_equal(other.take(np.arange(3))[0], VALUES[8:11])
    np.testing.assert_array_equal(first.take(np.arange(3))[0], VALUES[:3])


def test_without_room_batches_follow_the_store(store, tmp_path, monkeypatch, capsys):
    """It is told, and a batch then touches few blocks: rows of a block are trained on together."""
    monkeypatch.setattr(mapped, "SPARE_BYTES", 2**62)
    monkeypatch.setattr("strata.pipeline.study.gathered.memory_bytes", lambda: 0)
    gathered = Gathered(tmp_path)
    view = gathered.pooled("v", store, LAYERS, sorted(KEYS))
    assert "v: read from its store in every epoch anew, which is slow, since" in capsys.readouterr().err
    made = batches("shuffled", np.arange(ROWS), np.ones((1, ROWS), bool), 4, 0, [view])
    blocks = [{KEYS.index(sorted(KEYS)[row]) // 4 for row in rows} for rows in made]
    assert max(map(len, blocks)) <= 2
