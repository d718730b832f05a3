"""Who trains, who validates, who is tested: index arrays, from labels alone.

Utterances with the same audio always stay together, and so do those that share a `disjoint` label: a head is never
tested on what it was trained on under another name.
"""

import hashlib
import json
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from trainers.data import TrainingError
from trainers.spec import Folds, Task


@dataclass(frozen=True)
class Fold:
    """Disjoint utterance numbers, int64, ascending."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def cross_validation(
    labels: pd.DataFrame,
    contents: Sequence[str],
    folds: Folds,
    seen: frozenset[str] = frozenset(),
    corpora: Sequence[str] = (),
) -> list[Fold]:
    """`folds.k` folds that together test every utterance once; a single one where the corpus gives its own split.

    Args:
        labels: one row per utterance.
        contents: identity of the audio of each.
        folds: how to divide.
        seen: contents that something behind the features was trained on: no fold tests them.
        corpora: where each utterance comes from; a corpus whose own split has no validation part is held out from.

    Raises:
        TrainingError: an unknown column, too few utterances or groups for k folds, or a fold that could test nothing.
    """
    found = _divided(labels, contents, folds, corpora)
    if not seen:
        return found
    fresh = np.array([content not in seen for content in contents])
    if not all(fresh[fold.test].any() for fold in found):
        raise TrainingError(
            "a fold would test only utterances that the embedding was trained on; divide both by the same "
            "folds: {given: split}, or name other corpora"
        )
    return [Fold(fold.train, fold.valid, fold.test[fresh[fold.test]]) for fold in found]


def refuse_untestable(folds: Folds, tasks: Mapping[str, Task]) -> None:
    """Raises TrainingError where a task is the very label that folds are disjoint by."""
    for name, task in tasks.items():
        if folds.disjoint and (task.label or name) == folds.disjoint:
            raise TrainingError(
                f"task {name} cannot be tested on folds that are disjoint by {folds.disjoint}: drop one of the two"
            )


def _divided(labels: pd.DataFrame, contents: Sequence[str], folds: Folds, corpora: Sequence[str]) -> list[Fold]:
    if folds.given:
        return [_given(labels, folds, contents, corpora)]
    everyone = np.arange(len(labels))
    result = []
    for rest, test in _kfold(labels, contents, folds, everyone, folds.k):
        result.append(Fold(*hold_out(labels, contents, folds, rest, folds.validation), test))
    return result


def hold_out(labels, contents, folds: Folds, among: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Splits `among` into (kept, held out), the second about `share` of it."""
    groups = len(np.unique(groups_of(labels, contents, folds)[among]))
    # As many parts as there are groups at the most: of eight speakers at least one is held out, whatever the share.
    return _kfold(labels, contents, folds, among, max(2, min(round(1 / share), groups)))[0]


def record(folds: Sequence[Fold], contents: Sequence[str]) -> dict[str, object]:
    """What two results must share to be compared fold by fold: `hash`; and how large the folds' parts are: `sizes`."""
    sides = [{"train": fold.train, "valid": fold.valid, "test": fold.test} for fold in folds]
    names = [{side: np.take(contents, rows).tolist() for side, rows in fold.items()} for fold in sides]
    return {"hash": digest(names), "sizes": [{side: len(rows) for side, rows in fold.items()} for fold in sides]}


def digest(content: object) -> str:
    """A hash of what JSON can say."""
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _kfold(labels, contents, folds: Folds, among: np.ndarray, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
    groups = groups_of(labels, contents, folds)[among]
    num_groups = len(np.unique(groups))
    if num_groups < k:
        what = f"values of {folds.disjoint!r}" if folds.disjoint else "utterances"
        raise TrainingError(f"{num_groups} {what} cannot be divided into {k} parts; lower folds.k or add data")
    single = num_groups == len(among)
    options = {"n_splits": k, "shuffle": True, "random_state": folds.seed}
    if folds.stratify is None:
        splitter, strata = (KFold if single else GroupKFold)(**options), None
    else:
        splitter = (StratifiedKFold if single else StratifiedGroupKFold)(**options)
        strata = _strata(labels, folds, among, k)
    with warnings.catch_warnings():
        # A class of fewer than k goes to as many parts as it can, one each; that is what one wants of it.
        warnings.filterwarnings("ignore", message="The least populated class")
        splits = list(splitter.split(among, strata, None if single else groups))
    return [(among[kept], among[held]) for kept, held in splits]


def groups_of(labels: pd.DataFrame, contents: Sequence[str], folds: Folds) -> np.ndarray:
    """Numbers that two utterances share if they share audio or the `disjoint` label, directly or in a chain."""
    content_numbers = pd.factorize(pd.Series(contents, dtype=object))[0]
    if folds.disjoint is None:
        return content_numbers
    column = _column(labels, folds.disjoint)
    if column.isna().any():
        raise TrainingError(
            f"folds.disjoint: {column.isna().sum()} utterances have no {folds.disjoint!r}; label or drop them"
        )
    label_numbers = pd.factorize(column)[0] + content_numbers.max() + 1
    size = label_numbers.max() + 1
    edges = coo_array((np.ones(len(labels)), (content_numbers, label_numbers)), shape=(size, size))
    return connected_components(edges, directed=False)[1][content_numbers]


def _strata(labels: pd.DataFrame, folds: Folds, among: np.ndarray, k: int) -> np.ndarray:
    """What to stratify by; a combination of labels so fine that no value occurs k times is cut from its end."""
    names = [folds.stratify] if isinstance(folds.stratify, str) else list(folds.stratify)
    columns = [_column(labels, name).iloc[among].astype(object) for name in names]
    texts = [column.where(column.notna(), "").astype(str) for column in columns]
    while texts:
        strata = pd.factorize(pd.MultiIndex.from_arrays(texts))[0]
        if np.bincount(strata).max() >= k:
            return strata
        texts.pop()
    return np.zeros(len(among), np.int64)


def _given(labels: pd.DataFrame, folds: Folds, contents: Sequence[str], corpora: Sequence[str]) -> Fold:
    column = _column(labels, folds.given).astype(object)
    names = {"train": "train", "valid": "valid", "validation": "valid", "dev": "valid", "test": "test"}
    unknown = [value for value in column.dropna().unique() if value not in names]
    if unknown:
        raise TrainingError(f"folds.given: {folds.given!r} must be train, valid or test, found {unknown[0]!r}")
    split = column.map(names).to_numpy(dtype=object)
    groups = groups_of(labels, contents, folds)
    which = np.array(corpora, dtype=object) if len(corpora) else np.zeros(len(labels), object)
    for corpus in dict.fromkeys(which[split == "train"]):
        here = which == corpus
        train = np.flatnonzero(here & (split == "train"))
        if "valid" in split[here] or len(np.unique(groups[train])) < 2:
            continue
        held = hold_out(labels, contents, folds, train, folds.validation)[1]
        # Wherever else they are: another corpus may have the same recordings.
        split[np.isin(groups, groups[held]) & (split == "train")] = "valid"
    # A recording that one corpus divides and another does not stays where the one has it.
    side = {group: name for group, name in zip(groups, split, strict=True) if name in names}
    drawn = zip(groups, _hashed(labels, contents, folds), strict=True)
    split = np.where(column.isna(), [side.get(group, name) for group, name in drawn], split)
    train, valid, test = (np.flatnonzero(split == name) for name in ("train", "valid", "test"))
    sides = [set(groups[side]) for side in (train, valid, test)]
    shared = sum(map(len, sides)) - len(set.union(*sides))
    if shared:
        what = f"recordings, or values of {folds.disjoint!r}," if folds.disjoint else "recordings"
        raise TrainingError(f"folds.given: {shared} {what} of one split are in another as well; mend {folds.given!r}")
    if not (len(train) and len(test)):
        raise TrainingError(f"folds.given: {folds.given!r} names no {'test' if len(train) else 'train'} utterances")
    return Fold(train, valid, test)


def _hashed(labels: pd.DataFrame, contents: Sequence[str], folds: Folds) -> np.ndarray:
    """A split for utterances that have none: by a hash, so that each stays where it is, whatever else takes part."""
    whose = pd.Series(contents, dtype=object) if folds.disjoint is None else _column(labels, folds.disjoint)
    shares = whose.map(lambda name: zlib.crc32(f"{folds.seed} {name}".encode()) / 2**32).to_numpy()
    valid = 1 / folds.k + (1 - 1 / folds.k) * folds.validation
    return np.select([shares < 1 / folds.k, shares < valid], ["test", "valid"], "train")


def _column(labels: pd.DataFrame, name: str) -> pd.Series:
    if name not in labels:
        raise TrainingError(f"folds: the manifest has no label {name!r}; it has {', '.join(labels.columns)}")
    return labels[name]
