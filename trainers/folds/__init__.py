"""Who trains, who validates, who is tested: index arrays, from labels alone.

Utterances that share audio always stay together, and so do those that share a `disjoint` label: a head is never tested
on what it was trained on under another name. What belongs together is for `folds.groups`, how it is divided for
`folds.division`, and a split that the corpus brings for `folds.given`. The order of the rows has no say in it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from strata.trainers.folds.division import deal, held_out
from strata.trainers.folds.doubts import doubts
from strata.trainers.folds.given import given_split
from strata.trainers.folds.groups import Utterances
from strata.trainers.inputs.data import Segments, TrainingError
from strata.trainers.spec import Folds, Task


@dataclass(frozen=True)
class Fold:
    """Disjoint utterance numbers, int64, ascending unless said otherwise."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    def ordered(self, rank: np.ndarray) -> "Fold":
        """The same utterances by ascending `rank` [utterances]."""
        return Fold(*(rows[np.argsort(rank[rows])] for rows in (self.train, self.valid, self.test)))


def cross_validation(
    labels: pd.DataFrame,
    contents: Sequence[str],
    folds: Folds,
    seen: frozenset[str] = frozenset(),
    corpora: Sequence[str] = (),
    segments: Segments | None = None,
) -> list[Fold]:
    """`folds.k` folds that together test every utterance once; a single one where the corpus gives its own split.

    Args:
        labels: one row per utterance.
        contents: identity of the audio of each.
        folds: how to divide.
        seen: contents that something behind the features was trained on: no fold tests them.
        corpora: where each utterance comes from; a corpus whose own split has no validation part is held out from.
        segments: of which recording each is which part; what overlaps is never separated.

    Raises:
        TrainingError: an unknown column, too few utterances or groups for k folds, or a fold that could test nothing.
    """
    utterances = Utterances(labels, contents, folds, segments)
    found = [Fold(*given_split(utterances, corpora, _held))] if folds.given else _divided(utterances)
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


def hold_out(
    labels: pd.DataFrame,
    contents: Sequence[str],
    folds: Folds,
    among: np.ndarray,
    share: float,
    segments: Segments | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Splits `among` into (kept, held out), the second about `share` of it: see `division.held_out`.

    Raises:
        TrainingError: an unknown column, or nothing that could be divided.
    """
    return _held(Utterances(labels, contents, folds, segments), among, share)


def notes_on(
    found: Sequence[Fold], labels: pd.DataFrame, contents: Sequence[str], folds: Folds, segments: Segments | None = None
) -> tuple[str, ...]:
    """What is to be known of folds before their scores are believed, a line each: see `doubts`."""
    parts = ([getattr(fold, part) for fold in found] for part in ("train", "valid", "test"))
    return doubts(Utterances(labels, contents, folds, segments), *parts)


def record(folds: Sequence[Fold], contents: Sequence[str]) -> dict[str, object]:
    """What two results must share to be compared fold by fold: `hash`; and how large the folds' parts are: `sizes`."""
    sides = [{"train": fold.train, "valid": fold.valid, "test": fold.test} for fold in folds]
    # As `digest` would hash the sides' sorted contents; these are sorted, and written as JSON, once for all sides.
    numbers, names = pd.factorize(np.asarray(contents, dtype=object), sort=True)
    texts = np.array(json.dumps(names.tolist(), separators=("\n", ":"))[1:-1].split("\n"), dtype=object)
    hashed = hashlib.blake2b(b"[", digest_size=16)
    for number, fold in enumerate(sides):
        for side, rows in fold.items():
            before = "}, {" if number and side == "train" else "{" if side == "train" else ", "
            hashed.update(f'{before}"{side}": [{", ".join(texts[np.sort(numbers[rows])])}]'.encode())
    hashed.update(b"}]")
    sizes = [{side: len(rows) for side, rows in fold.items()} for fold in sides]
    return {"hash": hashed.hexdigest(), "sizes": sizes}


def digest(content: object) -> str:
    """A hash of what JSON can say."""
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _divided(utterances: Utterances) -> list[Fold]:
    folds = utterances.folds
    everyone = np.arange(len(utterances))
    groups, numbers = utterances.among(everyone, "tested")
    _refuse_too_few(utterances, len(groups))
    part_of = deal(groups, folds.k, utterances.rng("tested"))[numbers]
    found = []
    for part in range(folds.k):
        kept, held = _held(utterances, np.flatnonzero(part_of != part), folds.validation)
        found.append(Fold(kept, held, np.flatnonzero(part_of == part)))
    return found


def _held(utterances: Utterances, among: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    groups, numbers = utterances.among(among, "validation")
    if len(groups) < 2:
        raise TrainingError(f"{utterances.named(len(groups))} cannot be divided into training and validation; add data")
    held = held_out(groups, share, utterances.rng("validation").uniform(-0.5, 0.5))[numbers]
    return among[~held], among[held]


def _refuse_too_few(utterances: Utterances, found: int) -> None:
    """Every fold needs something to train on, to validate and to test: two parts take four groups, more parts one each.

    Two parts of three groups leave a single one beside the larger part.
    """
    k = utterances.folds.k
    if found >= max(k, 3 + (k == 2)):
        return
    what = utterances.named(found)
    if found < 3:
        raise TrainingError(
            f"{what} cannot be divided into {k} parts: training, validation and test need one each; add data"
        )
    if found < k:
        raise TrainingError(f"{what} cannot be divided into {k} parts; lower folds.k to {found} or less, or add data")
    raise TrainingError(
        f"{what} cannot be divided into 2 parts that leave two each to train and validate on; raise folds.k to 3, "
        "or add data"
    )
