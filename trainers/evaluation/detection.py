"""Error rates of detection: of yes and no by a threshold, where each pair of utterances is a trial."""

import numpy as np
from jaxtyping import Bool, Float

TARGET_PRIOR = 0.01
"""Of the minimum detection cost: one trial in a hundred is of one speaker, as in NIST's evaluations and VoxCeleb's."""


def equal_error_rate(targets: Bool[np.ndarray, " trials"], scores: Float[np.ndarray, " trials"]) -> float:
    """The error rate at the threshold where as many targets are missed as non-targets pass.

    Between two thresholds that the scores can tell apart both rates are taken to change linearly, which a decision by
    lot between them reaches; equal scores are one threshold. (audmetric's definition differs: the middle between the
    two rates at one of the thresholds, which of few trials is another number.)

    Raises:
        ValueError: no target, no non-target, or a score that is not a number.
    """
    passed, missed = _error_rates(targets, scores)
    ahead = missed - passed  # falls from 1 to -1 without a halt
    after = int(np.argmax(ahead <= 0))
    before = after - 1
    share = ahead[before] / (ahead[before] - ahead[after])
    return float(passed[before] + share * (passed[after] - passed[before]))


def min_dcf(
    targets: Bool[np.ndarray, " trials"], scores: Float[np.ndarray, " trials"], prior: float = TARGET_PRIOR
) -> float:
    """Minimum over the thresholds of the detection cost, misses and false alarms costing the same.

    In units of what it costs to answer every trial alike (NIST SRE 2010): 1 is no better than that.

    Args:
        targets: whether a trial's utterances are of one speaker.
        scores: higher where they seem to be.
        prior: share of targets that is reckoned with, whatever it is among these trials.

    Raises:
        ValueError: as for `equal_error_rate`.
    """
    passed, missed = _error_rates(targets, scores)
    return float((prior * missed + (1 - prior) * passed).min() / min(prior, 1 - prior))


def _error_rates(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of non-targets that pass and share of targets that are missed, at every threshold from the highest down."""
    if targets.all() or not targets.any() or not np.isfinite(scores).all():
        raise ValueError(
            f"expected targets and non-targets with finite scores, found {int(targets.sum())} targets among "
            f"{len(targets)} trials, {int((~np.isfinite(scores)).sum())} scores not finite"
        )
    order = np.argsort(-scores, kind="stable")
    hits, ends = np.cumsum(targets[order]), np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)
    hits, count = np.append(0, hits[ends]), np.append(0, ends + 1)
    return (count - hits) / (count[-1] - hits[-1]), 1 - hits / hits[-1]
