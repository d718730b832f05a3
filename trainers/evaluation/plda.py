"""Probabilistic linear discriminant analysis: how much likelier two vectors are of one speaker than of two.

The two-covariance model: a speaker is y ~ N(mean, between), an utterance of his is x ~ N(y, within). It is fitted by
maximum likelihood and scores a pair by its exact log-likelihood ratio (Brümmer & de Villiers 2010, "The speaker
partitioning problem", §2; the diagonalisation is that of Ioffe 2006, "Probabilistic linear discriminant analysis"; the
expanded model by which each iteration goes further is that of Liu, Rubin & Wu 1998, "Parameter expansion to accelerate
EM: the PX-EM algorithm").

SpeechBrain's PLDA_LDA is not used: to import it brings PyTorch and torchaudio along (six seconds, and no import at all
where torchaudio's compiled half does not load), its fit walks over the speakers one by one, keeps a matrix for each,
and leaves the mean where the utterances and not the speakers put it; its scoring makes a square of all pairs. Its
scores of a model are the same as those here, to which the tests hold them.

Reads arrays, or what `evaluation.scatter` has summed of them; knows no folds, no trials. Used by `evaluation.backend`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigh

from strata.trainers.evaluation.scatter import Scatter, scatter

ITERATIONS = 1000
"""At most; from the moments as a start a few are enough, and hundreds where speakers have very few utterances."""
LEAST_GAIN = 1e-7
"""Of log-likelihood per utterance, by an iteration that is not the last."""
BLOCK = 1 << 13
"""Pairs that are scored at a time: bounds the memory."""


@dataclass(frozen=True)
class TwoCovariance:
    """A fitted model."""

    mean: Float[np.ndarray, " dim"]
    between: Float[np.ndarray, "dim dim"]
    """Covariance of speakers."""
    within: Float[np.ndarray, "dim dim"]
    """Covariance of one speaker's utterances."""
    log_likelihood: tuple[float, ...]
    """Of the training data per utterance and before each iteration, without the constant; never falls."""
    converged: bool = True
    """Whether the last iteration of the fit gained next to nothing."""

    def scores(
        self, x: Float[np.ndarray, "rows dim"], first: Int[np.ndarray, " pairs"], second: Int[np.ndarray, " pairs"]
    ) -> Float[np.ndarray, " pairs"]:
        """log p(x₁, x₂ | one speaker) − log p(x₁, x₂ | two speakers), for pairs of rows.

        Args:
            x: vectors.
            first: of each pair the number of a vector.
            second: that of the other.
        """
        return self.ratios(*self.shares(x), first, second)

    @cached_property
    def _axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Where `within` is the identity and `between` is diagonal: see `_diagonalised`."""
        return _diagonalised(self.between, self.within)

    def shares(
        self, x: Float[np.ndarray, "rows dim"]
    ) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, "rows dim"]]:
        """What each vector brings to the ratios of its pairs: by itself, and to be multiplied with another's.

        On the axes on which `within` is the identity and `between` is diagonal, a pair's ratios are independent of each
        other: log(ψ+1) − ½ log(2ψ+1) + (2ψ·u₁u₂ − ψ²/(ψ+1)·(u₁² + u₂²)) / (2(2ψ+1)) on each.
        """
        psi, directions = self._axes
        u = (x - self.mean) @ directions
        alone = (np.log1p(psi) - 0.5 * np.log1p(2 * psi)).sum() / 2 - u**2 @ (psi**2 / (psi + 1) / (4 * psi + 2))
        return alone, u * np.sqrt(psi / (2 * psi + 1))

    @staticmethod
    def ratios(
        alone: Float[np.ndarray, " rows"],
        together: Float[np.ndarray, "rows dim"],
        first: Int[np.ndarray, " pairs"],
        second: Int[np.ndarray, " pairs"],
    ) -> Float[np.ndarray, " pairs"]:
        """The scores of pairs of vectors that were given to `shares`."""
        result = np.empty(len(first))
        for start in range(0, len(first), BLOCK):
            one, other = first[start : start + BLOCK], second[start : start + BLOCK]
            product = np.einsum("pd,pd->p", together[one], together[other])
            result[start : start + BLOCK] = alone[one] + alone[other] + product
        return result


def fit(x: Float[np.ndarray, "rows dim"], speakers: Int[np.ndarray, " rows"]) -> TwoCovariance:
    """Fits a model to vectors that lie in memory; see `fit_to`.

    Args:
        x: vectors.
        speakers: whose each is, as any whole number.
    """
    return fit_to(scatter(lambda: [x], np.unique(speakers, return_inverse=True)[1]))


def fit_to(found: Scatter) -> TwoCovariance:
    """Fits a model by expectation–maximisation, from the moments of a one-way analysis of variance.

    Goes on until an iteration gains less than `LEAST_GAIN`; a model says if `ITERATIONS` were not enough for that.

    Args:
        found: what is known of the vectors; their classes are the speakers.

    Raises:
        ValueError: fewer than two speakers, or none with two utterances.
    """
    counts, means, mean = found.counts, found.means, found.mean
    num_speakers, num_rows = len(counts), found.num_rows
    if num_speakers < 2 or num_rows == num_speakers:
        raise ValueError(
            f"expected two speakers or more, one of them with two utterances, found {num_speakers} speakers of "
            f"{num_rows} utterances"
        )
    n = counts[:, None].astype(np.float64)
    offsets = means - mean
    # A little of the total variance on every axis: with few utterances some have none within a speaker.
    floor = 1e-6 * (found.variance or 1.0) * np.eye(len(mean))
    about_speakers = found.within + num_rows * floor
    within = about_speakers / (num_rows - num_speakers)
    typical = (num_rows - (n**2).sum() / num_rows) / (num_speakers - 1)
    psi, directions = _diagonalised((n * offsets).T @ offsets / (num_speakers - 1), within)
    between = _restored(np.diag(np.maximum((psi - 1) / typical, 1e-3)), within @ directions)
    likelihoods: list[float] = []
    converged = False
    for _ in range(ITERATIONS):
        psi, directions = _diagonalised(between, within)
        u = (means - mean) @ directions
        spread = directions.T @ about_speakers @ directions
        fit_of_means = (np.log1p(n * psi) + n * u**2 / (1 + n * psi)).sum() + np.trace(spread)
        likelihoods.append(float(np.linalg.slogdet(directions)[1] - fit_of_means / (2 * num_rows)))
        if len(likelihoods) > 1 and likelihoods[-1] - likelihoods[-2] < LEAST_GAIN:
            converged = True
            break
        # A speaker is y = √ψ·t with t ~ N(0, 1). The utterances are regressed on (t, 1), and t's own moments go into
        # the new model: with the factor of t fixed, an axis without speakers takes thousands of iterations to vanish.
        expected, variance = n * np.sqrt(psi) / (1 + n * psi) * u, 1 / (1 + n * psi)
        known = np.column_stack([expected, np.ones(num_speakers)])
        moments = (n * known).T @ known
        moments[:-1, :-1] += np.diag((n * variance).sum(axis=0))
        sums = (n * u).T @ known
        factors = np.linalg.solve(moments, sums.T).T
        middle = expected.mean(axis=0)
        own = (expected.T @ expected + np.diag(variance.sum(axis=0))) / num_speakers - np.outer(middle, middle)
        back = within @ directions
        mean = mean + back @ (factors[:, :-1] @ middle + factors[:, -1])
        between = _restored(factors[:, :-1] @ own @ factors[:, :-1].T, back)
        within = _restored((spread + (n * u).T @ u - factors @ sums.T) / num_rows, back)
    return TwoCovariance(mean, between, within, tuple(likelihoods), converged)


def _diagonalised(between: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ψ [dim] and V [dim, dim], with VᵀWV = I and VᵀBV = diag ψ."""
    psi, directions = eigh(between, within)
    return np.maximum(psi, 0.0), directions


def _restored(covariance: np.ndarray, back: np.ndarray) -> np.ndarray:
    """A covariance in the original axes, symmetric to the last bit. `back` is V⁻ᵀ = WV."""
    full = back @ covariance @ back.T
    return (full + full.T) / 2
