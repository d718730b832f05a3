"""The two-covariance model: its scores against densities and SpeechBrain, its fit against closed forms."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from strata.trainers.evaluation import plda

DIM = 7


def _covariance(rng: np.random.Generator, scale: float) -> np.ndarray:
    root = rng.normal(size=(DIM, DIM))
    return scale * root @ root.T / DIM + 0.2 * np.eye(DIM)


def _speech(counts: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, plda.TwoCovariance]:
    """Utterances of speakers that have `counts` of them, and the model that they were drawn from."""
    rng = np.random.default_rng(seed)
    truth = plda.TwoCovariance(rng.normal(size=DIM), _covariance(rng, 2.0), _covariance(rng, 1.0), ())
    speakers = np.repeat(np.arange(len(counts)), counts)
    voices = rng.multivariate_normal(truth.mean, truth.between, len(counts))
    noise = rng.multivariate_normal(np.zeros(DIM), truth.within, len(speakers))
    return voices[speakers] + noise, speakers, truth


def _log_likelihood(model: plda.TwoCovariance, x: np.ndarray, speakers: np.ndarray) -> float:
    """Per utterance, by the density of all of a speaker's utterances at once."""
    total = 0.0
    for speaker in np.unique(speakers):
        own = x[speakers == speaker]
        n = len(own)
        covariance = np.kron(np.eye(n), model.within) + np.kron(np.ones((n, n)), model.between)
        total += multivariate_normal(np.tile(model.mean, n), covariance).logpdf(own.ravel())
    return total / len(x)


@pytest.fixture(scope="module")
def speechbrain():
    """SpeechBrain's module alone: its package imports torchaudio, which need not load."""
    (folder,) = importlib.util.find_spec("speechbrain").submodule_search_locations
    spec = importlib.util.spec_from_file_location("plda_lda", Path(folder) / "processing" / "PLDA_LDA.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _statistics(speechbrain, x: np.ndarray, names: np.ndarray):
    """Vectors as SpeechBrain takes them."""
    names, nothing = np.asarray(names, dtype="|O"), np.array([None] * len(x))
    utterances = np.array([f"u{i}" for i in range(len(x))], dtype="|O")
    return speechbrain.StatObject_SB(names, utterances, nothing, nothing, np.ones((len(x), 1)), x.copy())


def test_a_score_is_the_log_ratio_of_two_densities():
    """Of both vectors together, of one speaker and of two; more pairs than are scored at a time."""
    x, _, model = _speech(np.full(23, 2))
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, len(x), (2, plda.BLOCK + 13))
    found = model.scores(x, first, second)
    total, nothing = model.between + model.within, np.zeros((DIM, DIM))
    mean, shown = np.tile(model.mean, 2), np.concatenate([x[first[-31:]], x[second[-31:]]], axis=1)
    one = multivariate_normal(mean, np.block([[total, model.between], [model.between, total]])).logpdf(shown)
    two = multivariate_normal(mean, np.block([[total, nothing], [nothing, total]])).logpdf(shown)
    np.testing.assert_allclose(found[-31:], one - two, atol=1e-10)
    np.testing.assert_allclose(found, model.scores(x, second, first), atol=1e-12)


def test_scores_are_those_of_speechbrain(speechbrain):
    """Of the same model."""
    x, _, model = _speech(np.full(11, 3))
    letters = list("abcdefghijklmnopqr")
    enrolled, tested = (_statistics(speechbrain, x[s], letters[s]) for s in (slice(5), slice(5, 18)))
    tested.segset = tested.modelset
    pairs = speechbrain.Ndx(models=enrolled.modelset, testsegs=tested.segset)
    factors = np.linalg.cholesky(model.between)
    expected = speechbrain.fast_PLDA_scoring(enrolled, tested, pairs, model.mean, factors, model.within).scoremat
    first, second = np.divmod(np.arange(5 * 13), 13)
    np.testing.assert_allclose(model.scores(x, first, second + 5).reshape(5, 13), expected, atol=1e-10)


def test_the_fit_of_as_many_utterances_of_everyone_is_the_analysis_of_variance():
    """Whose maximum has a closed form: W = SSW / (S(n − 1)), B = (SSB / S − W) / n."""
    speakers_, n = 211, 5
    x, speakers, _ = _speech(np.full(speakers_, n))
    found = plda.fit(x, speakers)
    means = x.reshape(speakers_, n, DIM).mean(axis=1)
    rest, offsets = x - means[speakers], means - x.mean(axis=0)
    within = rest.T @ rest / (speakers_ * (n - 1))
    between = (n * offsets.T @ offsets / speakers_ - within) / n
    np.testing.assert_allclose(found.mean, x.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.within, within, atol=2e-3)
    np.testing.assert_allclose(found.between, between, atol=1e-2)


def test_the_fit_is_the_likeliest_model(speechbrain):
    """Its likelihood is what it says, never falls, and is above that of the truth and of SpeechBrain's fit."""
    counts = np.random.default_rng(2).integers(1, 9, 97)
    x, speakers, truth = _speech(counts)
    found = plda.fit(x, speakers)
    best = _log_likelihood(found, x, speakers)
    assert found.log_likelihood[-1] - DIM / 2 * np.log(2 * np.pi) == pytest.approx(best, abs=1e-4)
    assert (np.diff(found.log_likelihood) > -1e-9).all()
    assert best > _log_likelihood(truth, x, speakers)
    theirs = speechbrain.PLDA(rank_f=DIM, nb_iter=20)
    theirs.plda(_statistics(speechbrain, x, np.array([f"s{i}" for i in speakers])))
    other = plda.TwoCovariance(theirs.mean, theirs.F @ theirs.F.T, theirs.Sigma, ())
    assert best > _log_likelihood(other, x, speakers)


def test_many_speakers_bring_the_truth_back():
    """To a few per cent."""
    x, speakers, truth = _speech(np.random.default_rng(3).integers(2, 7, 5003))
    found = plda.fit(x, speakers)
    for name in ("between", "within"):
        error = np.linalg.norm(getattr(found, name) - getattr(truth, name))
        assert error < 0.06 * np.linalg.norm(getattr(truth, name))


def test_vectors_without_any_variance_are_scored_alike():
    """Nothing can be told of them."""
    x = np.ones((10, DIM))
    found = plda.fit(x, np.repeat(np.arange(5), 2)).scores(x, np.arange(9), np.arange(1, 10))
    assert np.isfinite(found).all()
    assert np.ptp(found) == 0


@pytest.mark.parametrize("speakers", [[0, 0, 0], [0, 1, 2]])
def test_one_speaker_or_one_utterance_of_each_is_refused(speakers):
    """They say nothing of what is the same and what differs."""
    with pytest.raises(ValueError, match=r"expected two speakers or more, one of them with two utterances, found [13]"):
        plda.fit(np.random.default_rng(0).normal(size=(3, DIM)), np.array(speakers))


@pytest.mark.parametrize(("num_speakers", "dim", "apart"), [(20, 7, 1.0), (30, 13, 0.1), (40, 30, 0.05)])
def test_the_fit_goes_on_until_it_has_converged(num_speakers, dim, apart):
    """With two utterances a speaker, who hardly differ: a further fit from there would gain next to nothing."""
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(num_speakers), 2)
    x = apart * rng.normal(size=(num_speakers, dim))[speakers] + rng.normal(size=(len(speakers), dim))
    found = plda.fit(x, speakers)
    assert found.converged
    assert (np.diff(found.log_likelihood) > -1e-9).all()
    assert found.log_likelihood[-1] - found.log_likelihood[-2] < plda.LEAST_GAIN


def test_a_fit_that_is_cut_short_says_so(monkeypatch):
    """Rather than pass for the likeliest model."""
    monkeypatch.setattr(plda, "ITERATIONS", 3)
    x, speakers, _ = _speech(np.full(9, 2))
    assert not plda.fit(x, speakers).converged
