"""The chain behind an embedding: by blocks the same as all at once, in the memory of a block."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import eigh
from sklearn.covariance import ledoit_wolf

from strata.trainers.evaluation import backend, plda
from strata.trainers.evaluation.backend import Backend, Vectors
from strata.trainers.evaluation.scatter import scatter
from strata.trainers.evaluation.verification import verify
from strata.trainers.inputs.data import Dataset
from strata.trainers.inputs.pooled import as_pooled
from strata.trainers.scale import CLIP
from strata.trainers.spec import Folds, Verification

LAYERS, DIM, SPEAKERS = 2, 17, 23


def speech(rows: int = 211) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of two layers, and whose they are: some speakers have one utterance, one value lies far out."""
    rng = np.random.default_rng(0)
    numbers = np.concatenate([np.arange(SPEAKERS), rng.integers(0, SPEAKERS - 4, rows - SPEAKERS)])
    x = rng.normal(size=(SPEAKERS, LAYERS, DIM))[numbers] + rng.normal(size=(rows, LAYERS, DIM)) + 5
    x[3, 0, 4] = 1e6
    x[:, 1, 6] = 2.5
    return x.astype(np.float32), numbers


def of_blocks(monkeypatch, rows: int) -> None:
    monkeypatch.setattr(backend, "BLOCK_BYTES", rows * 8 * LAYERS * DIM)


def test_scores_by_blocks_are_those_of_the_formulas_on_all_rows(monkeypatch):
    """Standardise, LDA by scikit-learn's Ledoit–Wolf covariance, unit length, PLDA, each on one array."""
    of_blocks(monkeypatch, 13)
    values, speakers = speech()
    rows = np.random.default_rng(1).permutation(len(values))[:180]
    first, second = np.random.default_rng(2).integers(0, len(rows), (2, 97))
    fitted = Backend.fit(Vectors(as_pooled(values), rows), speakers[rows], 7)
    found = fitted.scores(Vectors(as_pooled(values), rows), first, second)

    x = values[rows].reshape(len(rows), -1).astype(np.float64)
    constant = np.ptp(x, axis=0) == 0
    sd = np.where(constant, np.inf, x.std(axis=0))
    x = np.clip((x - x.mean(axis=0)) / sd, -CLIP, CLIP)
    _, numbers = np.unique(speakers[rows], return_inverse=True)
    means = pd.DataFrame(x).groupby(numbers).mean().to_numpy()
    within, _ = ledoit_wolf(x - means[numbers], assume_centered=True)
    between = means[numbers].T @ means[numbers] / len(x)
    directions = eigh(between, within + 1e-6 * np.eye(LAYERS * DIM))[1][:, -7:]
    x = x @ directions
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(found, plda.fit(x, numbers).scores(x, first, second), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("block", [1, 50, 211, 1000])
def test_the_size_of_a_block_changes_nothing(monkeypatch, block):
    """Beyond rounding."""
    values, speakers = speech()
    pairs = np.arange(0, 100), np.arange(100, 200)
    everyone = Vectors(as_pooled(values), np.arange(len(values)))
    expected = Backend.fit(everyone, speakers, 7).scores(everyone, *pairs)
    of_blocks(monkeypatch, block)
    np.testing.assert_allclose(Backend.fit(everyone, speakers, 7).scores(everyone, *pairs), expected, atol=1e-8)


@pytest.mark.parametrize(("rows", "dim"), [(7, 1), (7, 2), (5, 31), (83, 31), (400, 31)])
def test_the_shrunk_covariance_is_that_of_scikit_learn(rows, dim):
    """From the sums of blocks, with many and with few rows for the axes."""
    rng = np.random.default_rng(dim)
    numbers = np.concatenate([np.arange(3), rng.integers(0, 3, rows - 3)])
    x = rng.normal(size=(rows, dim)) @ rng.normal(size=(dim, dim)) + 3 * rng.normal(size=(3, dim))[numbers]
    found = scatter(lambda: np.array_split(x, 3), numbers)
    means = np.stack([x[numbers == number].mean(axis=0) for number in range(3)])
    expected, _ = ledoit_wolf(x - means[numbers], assume_centered=True)
    np.testing.assert_allclose(found.shrunk(), expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
    np.testing.assert_allclose(found.means, means)
    np.testing.assert_allclose(found.mean, x.mean(axis=0))
    assert found.variance == pytest.approx(x.var(axis=0).mean())


def test_rows_that_do_not_vary_within_their_classes_have_no_covariance():
    """Zeros, and no division by them."""
    found = scatter(lambda: [np.repeat(np.eye(3), 2, axis=0)], np.repeat(np.arange(3), 2))
    np.testing.assert_array_equal(found.shrunk(), np.zeros((3, 3)))


def test_a_verification_holds_blocks_and_not_copies_of_the_embeddings(monkeypatch):
    """What it allocates beside the embeddings is less than they are, here a third: five folds on 6.4 MB."""
    rng = np.random.default_rng(0)
    speakers = np.arange(6400) % 97
    x = (rng.normal(size=(97, 250))[speakers] + 2 * rng.normal(size=(6400, 250))).astype(np.float32)[:, None]
    names = [str(i) for i in range(len(x))]
    data = Dataset(names, names, pd.DataFrame({"speaker": [f"s{i}" for i in speakers]}), {"v": x})
    how = Verification(views=["v"], verify="speaker", dimensions=40, folds=Folds(k=3, stratify="speaker"))
    monkeypatch.setattr(backend, "BLOCK_BYTES", 1 << 18)
    verify(how, data, "v", most_pairs=1000)  # what is imported and divided once
    tracemalloc.start()
    found = verify(how, data, "v", most_pairs=1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.metrics["tasks"]["speaker"]["eer"]["mean"] < 0.3
    assert peak < x.nbytes
