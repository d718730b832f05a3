"""A split that the corpora bring along (`folds.given`): one fold, in which each utterance stands where it was put."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from strata.trainers.folds.groups import Utterances
from strata.trainers.inputs.data import TrainingError

NAMES = {"train": "train", "valid": "valid", "validation": "valid", "dev": "valid", "test": "test"}
"""What a split may be called, and what it is."""


def given_split(
    utterances: Utterances,
    corpora: Sequence[str],
    hold_out: Callable[[Utterances, np.ndarray, float], tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of the training, validation and test utterances, ascending.

    Args:
        utterances: with a split, or without: see `spec.Folds.given`.
        corpora: where each comes from; from one that names no validation part a share is held out.
        hold_out: see `folds`.

    Raises:
        TrainingError: an unknown label or value, recordings on two sides, or nothing to train on or to test.
    """
    folds = utterances.folds
    column = utterances.column(folds.given).astype(object)
    if unknown := sorted({str(value) for value in column.dropna().unique() if value not in NAMES}):
        raise TrainingError(f"folds.given: {folds.given!r} must be train, valid or test, found {unknown[0]!r}")
    split = column.map(NAMES).to_numpy(dtype=object)
    groups = utterances.groups
    _validate_all(split, utterances, np.array(corpora, dtype=object), hold_out)
    # A recording that one corpus divides and another does not stays where the one has it.
    side = np.full(groups.max() + 1, None, dtype=object)
    for name in ("train", "valid", "test"):
        side[groups[split == name]] = name
    nowhere = np.array([name is None for name in side])
    if nowhere.any():
        side[nowhere] = _drawn(utterances, nowhere)
    split = np.where(column.isna(), side[groups], split)
    train, valid, test = (np.flatnonzero(split == name) for name in ("train", "valid", "test"))
    sides = np.zeros((3, len(side)), bool)
    for there, rows in zip(sides, (train, valid, test), strict=True):
        there[groups[rows]] = True
    if shared := int(sides.sum() - sides.any(axis=0).sum()):
        what = f"recording{'s' * (shared > 1)}"
        what += f", or value{'s' * (shared > 1)} of {folds.disjoint!r}," if folds.disjoint else ""
        where = f"of one split {'are' if shared > 1 else 'is'} in another as well"
        raise TrainingError(f"folds.given: {shared} {what} {where}; mend {folds.given!r}")
    if not (len(train) and len(test)):
        raise TrainingError(f"folds.given: {folds.given!r} names no {'test' if len(train) else 'train'} utterances")
    return train, valid, test


def _validate_all(split: np.ndarray, utterances: Utterances, corpora: np.ndarray, hold_out: Callable) -> None:
    """Gives every corpus that trains and names no validation part one of the size of its share."""
    groups, share = utterances.groups, utterances.folds.validation
    corpora = corpora if len(corpora) else np.zeros(len(split), object)
    # Looked up before anything is held out, which moves recordings of other corpora as well.
    own = [c for c in np.unique(corpora[split == "train"]) if "valid" not in split[corpora == c]]
    for corpus in own:
        here = corpora == corpus
        train, moved = np.flatnonzero(here & (split == "train")), int((here & (split == "valid")).sum())
        wanted = share * (len(train) + moved) - moved  # what another corpus shares validates already
        if wanted <= 0 or np.ptp(groups[train]) == 0:
            continue
        held = hold_out(utterances, train, wanted / len(train))[1]
        # Wherever else they are: another corpus may have the same recordings.
        split[np.isin(groups, groups[held]) & (split == "train")] = "valid"


def _drawn(utterances: Utterances, which: np.ndarray) -> np.ndarray:
    """A side for some groups: by a hash, so that each stays where it is, whatever takes part beside it.

    Of a group of several contents, or labels of `disjoint`, the first by name decides: what joins a group under a name
    that comes before all of it may move it, and what joins two groups makes one of them move. (The smallest of several
    hashes would be small, and its side most often the first.)

    Args:
        utterances: all of them.
        which: bool [groups].
    """
    folds = utterances.folds
    names = utterances.contents if folds.disjoint is None else utterances.disjoint.astype(str).to_numpy(dtype=object)
    rows = np.flatnonzero(which[utterances.groups])
    numbers, uniques = pd.factorize(names[rows].astype(str).astype(object), sort=True)
    chosen = np.full(len(which), len(uniques), np.int64)
    np.minimum.at(chosen, utterances.groups[rows], numbers)
    shares = np.array([_share(f"{folds.seed} {uniques[number]}") for number in chosen[which]])
    test = 1 / folds.k
    return np.select([shares < test, shares < test + (1 - test) * folds.validation], ["test", "valid"], "train")


def _share(name: str) -> float:
    """Between 0 and 1; of two names, one has nothing to do with the other."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) / 2**64
