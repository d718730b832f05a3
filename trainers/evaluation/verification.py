"""Are two utterances of one speaker? PLDA on frozen embeddings, scored by the equal error rate (wavCSE §3, phase 2).

Every fold fits the usual chain behind an embedding (`evaluation.backend`) on its training and validation utterances and
scores pairs of its tested ones. Whatever label says who is who, a speaker in what follows is a value of that label.

Reads the arrays and labels of a `Dataset`; what it leaves can be written as an experiment's results are. Knows no
files: `pipeline.stages.trial_list` reads a list of trials.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from strata.trainers import setups
from strata.trainers.evaluation import plda
from strata.trainers.evaluation.backend import Backend, Vectors
from strata.trainers.evaluation.detection import equal_error_rate, min_dcf
from strata.trainers.folds import Fold, digest, record
from strata.trainers.folds.groups import Utterances
from strata.trainers.folds.shared import division
from strata.trainers.inputs.data import Dataset, Targets, TrainingError, targets_of
from strata.trainers.inputs.pooled import Pooled, as_pooled
from strata.trainers.spec import Folds, Task, Verification
from strata.trainers.tasks.metrics import summary

MOST_PAIRS = 2_000_000
"""That a fold scores; of more a sample is drawn, by half of one speaker where there are so many."""
MOST_ROWS = 200_000
"""Of the table of trials, over all folds."""


@dataclass(frozen=True)
class VerificationScores:
    """What a verification leaves behind."""

    metrics: dict[str, object]
    """As those of `evaluation.experiment.Evaluation`, the label in the place of a task; `num_trials` and `num_targets`
    count what was scored in all folds, `num_left_out` the trials that were not."""
    trials: pd.DataFrame
    """`fold`, `first` and `second` (utterances), `target` (whether of one speaker), `score` (log-likelihood ratio)."""
    notes: tuple[str, ...]
    """What was left out and why, a line each, for whoever reads the scores."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of utterances: row numbers, and whether they are of one speaker."""

    first: Int[np.ndarray, " pairs"]
    second: Int[np.ndarray, " pairs"]
    target: Bool[np.ndarray, " pairs"]

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, which: np.ndarray) -> "Pairs":
        return Pairs(self.first[which], self.second[which], self.target[which])


def verify(
    how: Verification,
    data: Dataset,
    view: str,
    trials: Sequence[tuple[int, int, bool]] | None = None,
    progress: Callable[[], None] = lambda: None,
    most_pairs: int = MOST_PAIRS,
) -> VerificationScores:
    """Fits and scores every fold. The same data give the same result to the bit on one machine.

    Utterances of one audio never form a trial: they count once in training, and say nothing when they are compared; nor
    do segments that overlap. The order of the utterances changes nothing.

    Args:
        how: the section of params.yaml.
        data: features [utterances, layers, dim] of the embedding.
        view: its name among the features.
        trials: pairs of rows of `data`, and whether they are of one speaker: they are one test, for which all other
            utterances fit the model, but for those that `folds.given` names for testing and, with `disjoint`, those
            that share that label with a tested one. All pairs of labelled utterances that a fold tests where not given.
        progress: called after each fold.
        most_pairs: how many of all pairs a fold scores.

    Raises:
        TrainingError: a label or folds that cannot work, or no fold with both kinds of pairs and enough to be fitted.
    """
    contents = pd.factorize(pd.Series(data.contents, dtype=object))[0]
    labelled = targets_of(how.verify, Task(kind="classification"), data.labels)
    audio = Utterances(data.labels, data.contents, Folds(), data.segments).groups
    listed = None if trials is None else _listed(trials, audio, data)
    folds = division(data, how.folds).folds if listed is None else [_around(listed, how, data).ordered(data.rank)]
    values = as_pooled(data.features[view])
    tested, possible = [], len(trials or ())
    for number, fold in enumerate(folds):
        rng = np.random.default_rng((how.folds.seed, number))
        known = _ordered(np.concatenate([fold.train, fold.valid]), data)
        known = known[labelled.values[known] >= 0]
        known = known[np.sort(np.unique(contents[known], return_index=True)[1])]
        pairs = listed
        if pairs is None:
            pairs, count = _all_pairs(fold.test[labelled.values[fold.test] >= 0], labelled.values, most_pairs, rng)
            pairs = pairs[audio[pairs.first] != audio[pairs.second]]
            possible += count
        backend = Backend.fit(Vectors(values, known), labelled.values[known], how.dimensions)
        # Sampled after the pairs, by the same generator.
        table = partial(_table, number, names=data.utterances, most=MOST_ROWS // len(folds), rng=rng)
        tested.append(_tested(backend, pairs, values, data, table))
        progress()
    return _outcome(how, data, view, labelled, folds, tested, listed, possible)


@dataclass(frozen=True)
class _Tested:
    """What a fold's pairs came to; not the scores themselves, which may be millions."""

    rates: dict[str, float]
    rows: np.ndarray
    """Those of the utterances in its pairs."""
    num_pairs: int
    num_targets: int
    converged: bool
    table: pd.DataFrame


def _tested(
    backend: Backend | None, pairs: Pairs, values: Pooled, data: Dataset, table: Callable[..., pd.DataFrame]
) -> _Tested | None:
    """One fold; None where there is nothing to score its pairs by, or they are all of one kind."""
    if backend is None or pairs.target.all() or not pairs.target.any():
        return None
    is_tested = np.zeros(len(data), bool)
    is_tested[pairs.first] = is_tested[pairs.second] = True
    rows = _ordered(np.flatnonzero(is_tested), data)
    places = (np.searchsorted(data.rank[rows], data.rank[side]) for side in (pairs.first, pairs.second))
    scores = backend.scores(Vectors(values, rows), *places)
    rates = {"eer": equal_error_rate(pairs.target, scores), "min_dcf": min_dcf(pairs.target, scores)}
    num_targets = int(pairs.target.sum())
    return _Tested(rates, rows, len(pairs), num_targets, backend.model.converged, table(pairs, scores))


def _outcome(
    how: Verification,
    data: Dataset,
    view: str,
    labelled: Targets,
    folds: Sequence[Fold],
    tested: Sequence[_Tested | None],
    listed: Pairs | None,
    possible: int,
) -> VerificationScores:
    """All folds' results together; see `verify`."""
    label, found = how.verify, [fold for fold in tested if fold]
    if not found:
        what = "the trials have not" if listed is not None else "no fold has"
        raise TrainingError(
            f"{label}: {what} both pairs of one {label} and pairs of two to test, and two of them, one with two "
            f"utterances, to be fitted on; label more, or choose {'other trials' if listed else 'fewer folds'}"
        )
    trial_list = None
    if listed is not None:
        trial_list = [*(data.rank[side].tolist() for side in (listed.first, listed.second)), listed.target.tolist()]
    scored = sum(fold.num_pairs for fold in found)
    metrics = {
        "setup": setups.PLDA,
        "views": [view],
        "tasks": {
            label: {rate: summary([fold.rates[rate] if fold else None for fold in tested]) for rate in found[0].rates}
        },
        "kinds": {label: "verification"},
        "primary": {label: "eer"},
        "chance": {label: {"eer": 0.5, "min_dcf": 1.0}},
        "classes": {},
        "num_utterances": len({row for fold in found for row in fold.rows.tolist()}),
        "num_folds": len(folds),
        "folds": record(folds, data.contents),
        "truth": {label: digest([*labelled.classes, labelled.values[np.argsort(data.rank)].tolist(), trial_list])},
        "num_trials": scored,
        "num_targets": sum(fold.num_targets for fold in found),
        "num_left_out": possible - scored,
    }
    table = pd.concat([fold.table for fold in found], ignore_index=True)
    notes = _notes(label, metrics, listed is not None, len(table), sum(not fold.converged for fold in found))
    if listed is None:
        notes += division(data, how.folds).notes
    return VerificationScores(metrics, table, notes)


def _listed(trials: Sequence[tuple[int, int, bool]], audio: np.ndarray, data: Dataset) -> Pairs:
    """A list of trials without those that compare an audio with itself, or with what the embedding was trained on."""
    table = np.array(trials, dtype=np.int64).reshape(-1, 3)
    seen = np.array([content in data.seen for content in data.contents])
    first, second = table[:, 0], table[:, 1]
    table = table[(audio[first] != audio[second]) & ~seen[first] & ~seen[second]]
    if not len(table):
        raise TrainingError(
            "each of the trials compares a recording with itself, or is of what the embedding was trained on; name "
            "other utterances, or train the embedding on other corpora"
        )
    return Pairs(table[:, 0], table[:, 1], table[:, 2] != 0)


def _around(listed: Pairs, how: Verification, data: Dataset) -> Fold:
    """What is left to fit a model on beside a list of trials."""
    test = np.union1d(listed.first, listed.second)
    # By audio, and by the label of `disjoint`.
    groups = Utterances(data.labels, data.contents, how.folds, data.segments).groups
    free = ~np.isin(groups, groups[test])
    if how.folds.given in data.labels:
        free &= (data.labels[how.folds.given] != "test").to_numpy()
    return Fold(np.flatnonzero(free), np.empty(0, np.int64), test)


def _ordered(rows: np.ndarray, data: Dataset) -> np.ndarray:
    """Rows by the names of their utterances."""
    return rows[np.argsort(data.rank[rows])]


def _all_pairs(rows: np.ndarray, speakers: np.ndarray, most: int, rng: np.random.Generator) -> tuple[Pairs, int]:
    """All pairs of `rows`, or a sample of them, and how many there are in all.

    Ordered by speaker, a row's partners of its own speaker follow it without a gap, and so do those of all others. Of a
    pair that comes first which comes first among `rows`.
    """
    order = np.argsort(speakers[rows], kind="stable")
    by_speaker = rows[order]
    places = np.arange(len(rows))
    ends = np.searchsorted(speakers[by_speaker], speakers[by_speaker], side="right")
    targets = _partners(places + 1, ends, most // 2, rng)
    others = _partners(ends, np.full(len(rows), len(rows)), most - targets.shape[1], rng)
    both = rows[np.sort(order[np.concatenate([targets, others], axis=1)], axis=0)]
    is_target = np.arange(both.shape[1]) < targets.shape[1]
    return Pairs(both[0], both[1], is_target), len(rows) * (len(rows) - 1) // 2


def _partners(start: np.ndarray, stop: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Pairs [2, pairs] of a place and each of its partners, start ≤ partner < stop; of more than `most` a sample."""
    ends = np.cumsum(stop - start)
    total = int(ends[-1]) if len(ends) else 0
    which = np.arange(total) if total <= most else np.sort(rng.choice(total, most, replace=False, shuffle=False))
    place = np.searchsorted(ends, which, side="right")
    return np.stack([place, stop[place] - (ends[place] - which)])


def _table(
    fold: int, pairs: Pairs, scores: np.ndarray, names: Sequence[str], most: int, rng: np.random.Generator
) -> pd.DataFrame:
    """A fold's trials; of more than `most` a sample, by half of one speaker where there are so many."""
    kept = np.arange(len(pairs))
    if len(pairs) > most:
        targets, others = np.flatnonzero(pairs.target), np.flatnonzero(~pairs.target)
        few = min(len(targets), max(most // 2, most - len(others)))
        sampled = [rng.choice(targets, few, replace=False), rng.choice(others, most - few, replace=False)]
        kept = np.sort(np.concatenate(sampled))
    first, second = (np.take(names, side[kept]) for side in (pairs.first, pairs.second))
    columns = {"first": first, "second": second, "target": pairs.target[kept], "score": scores[kept]}
    return pd.DataFrame({"fold": fold, **columns})


def _notes(label: str, metrics: dict, is_list: bool, num_rows: int, unconverged: int) -> tuple[str, ...]:
    """What was left out and why, and what was not brought to its end."""
    scored, left_out = metrics["num_trials"], metrics["num_left_out"]
    notes = []
    if left_out and is_list:
        notes.append(
            f"{label}: {left_out} of {left_out + scored} trials are left out: they compare a recording with itself, or "
            f"are of what the embedding was trained on"
        )
    elif left_out:
        notes.append(
            f"{label}: {scored} of {left_out + scored} pairs are scored: none of a recording with itself, none of "
            f"folds without both kinds, and of more than {MOST_PAIRS:,} in a fold a sample"
        )
    if num_rows < scored:
        notes.append(f"{label}: the table of trials keeps a sample of {num_rows} of {scored}")
    without = metrics["tasks"][label]["eer"]["folds"].count(None)
    if without:
        notes.append(
            f"{label}: {without} of {metrics['num_folds']} folds have no pairs of both kinds, and no score; lower "
            "folds.k"
        )
    if unconverged:
        notes.append(
            f"{label}: the fit of {unconverged} of {metrics['num_folds']} folds had not converged after "
            f"{plda.ITERATIONS} iterations; give each {label} more utterances, or lower dimensions"
        )
    return tuple(notes)
