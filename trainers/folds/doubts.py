"""What is to be known of folds before their scores are believed: a line each, for whoever reads them.

Divides nothing: see `folds`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from strata.trainers.folds.groups import Utterances

_LOPSIDED = 1.5
"""A test part that is so many times as large as an even one is told."""
_NAMED = 3


def doubts(
    utterances: Utterances, train: Sequence[np.ndarray], valid: Sequence[np.ndarray], test: Sequence[np.ndarray]
) -> tuple[str, ...]:
    """Lines on classes that validate and train nobody, and on test parts that are far from being of one size.

    A split that the corpus brings is taken as it is.

    Args:
        utterances: which were divided.
        train: of each fold the training utterances.
        valid: of each fold the validation utterances.
        test: of each fold the test utterances.
    """
    if utterances.folds.given:
        return ()
    return tuple(filter(None, (_unheard(utterances, train, valid), _lopsided(utterances, test))))


def _unheard(utterances: Utterances, train: Sequence[np.ndarray], valid: Sequence[np.ndarray]) -> str:
    folds = utterances.folds
    name = next(iter(folds.stratified), None)
    if name in (None, folds.disjoint):
        return ""
    numbers, names = pd.factorize(utterances.column(name).astype(str).to_numpy(dtype=object), sort=True)
    found = []
    for kept, held in zip(train, valid, strict=True):
        # One number more: what has no such label is −1, the last.
        is_kept, is_held = np.zeros((2, len(names) + 1), bool)
        is_kept[numbers[kept]], is_held[numbers[held]] = True, True
        found.append(names[(is_held & ~is_kept)[:-1]])
    if not any(map(len, found)):
        return ""
    number = int(np.argmax([len(each) for each in found]))
    named = ", ".join(found[number][:_NAMED]) + (", …" if len(found[number]) > _NAMED else "")
    return (
        f"fold {number} validates {len(found[number])} of {len(names)} values of {name!r} that it does not "
        f"train ({named}), since folds.validation is {folds.validation:g} and they have too few utterances; lower it, "
        "or add data"
    )


def _lopsided(utterances: Utterances, test: Sequence[np.ndarray]) -> str:
    sizes = [len(rows) for rows in test]
    largest = int(np.argmax(sizes))
    counts = np.bincount(utterances.groups)
    if sizes[largest] <= _LOPSIDED * sum(sizes) / len(sizes) or counts.max() < 2:
        return ""
    group = int(np.argmax(counts))
    what = "utterances that share audio"
    if utterances.folds.disjoint:
        first = utterances.disjoint.astype(str).to_numpy(dtype=object)[utterances.groups == group][0]
        what = f"{utterances.folds.disjoint!r} {first}, which is never divided,"
    return (
        f"the folds test {min(sizes)} to {sizes[largest]} of {sum(sizes)} utterances, and count alike: {what} comes to "
        f"{counts[group]}; lower folds.k, or leave some of them out"
    )
