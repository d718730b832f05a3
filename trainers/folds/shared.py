"""A division is made once, however many ask for it: the cells of a grid and the trials of a search share their folds.

What is kept is known by a hash of all that it follows from (utterances, contents, the labels that count, the section),
so it does not matter that every cell comes with a `Dataset` of its own. Knows no features.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from strata.trainers.folds import Fold, cross_validation, hold_out, notes_on, record
from strata.trainers.inputs.data import Dataset
from strata.trainers.spec import Folds

KEPT = 8
"""Divisions at a time: of 150,000 utterances each has 7 MB."""
_kept: OrderedDict[str, "Division"] = OrderedDict()


class Division:
    """How the utterances of a dataset are divided; each part is made when it is first asked for.

    All arrays are read-only, since others look at them too.
    """

    def __init__(self, data: Dataset, how: Folds):
        """Keeps of a dataset what a division follows from, and not its features."""
        self._how, self._rank, self._seen, self._corpora = how, data.rank, data.seen, data.corpora
        # A copy: it is asked later on, and for others, when whoever brought the labels may have changed them.
        self._labels, self._contents, self._segments = data.labels.copy(), data.contents, data.segments

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """See `folds.cross_validation`; utterances by `Dataset.rank`.

        Raises:
            TrainingError: see there.
        """
        found = cross_validation(self._labels, self._contents, self._how, self._seen, self._corpora, self._segments)
        return tuple(_frozen(fold.ordered(self._rank)) for fold in found)

    @cached_property
    def whole(self) -> Fold:
        """All utterances in a training and a validation part, and nothing to test. Where the corpus names its own test
        split, that split stays unseen for ever, and so these are the parts of its one fold.

        Raises:
            TrainingError: see `folds.hold_out`.
        """
        nobody = np.empty(0, np.int64)
        if self._how.given:
            return _frozen(Fold(self.folds[0].train, self.folds[0].valid, nobody))
        everyone = np.arange(len(self._contents))
        kept = hold_out(self._labels, self._contents, self._how, everyone, self._how.validation, self._segments)
        return _frozen(Fold(*kept, nobody).ordered(self._rank))

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """See `folds.notes_on`."""
        return notes_on(self.folds, self._labels, self._contents, self._how, self._segments)

    @cached_property
    def record(self) -> Mapping[str, object]:
        """See `folds.record`."""
        return record(self.folds, self._contents)

    @cached_property
    def order(self) -> np.ndarray:
        """All utterances by `Dataset.rank`."""
        return _read_only(np.argsort(self._rank))


def division(data: Dataset, how: Folds) -> Division:
    """How `data` is divided: the same object for all datasets of the same utterances and labels."""
    known = _known_by(data, how)
    found = _kept.pop(known, None) or Division(data, how)
    _kept[known] = found  # the last to go
    while len(_kept) > KEPT:
        _kept.popitem(last=False)
    return found


def _known_by(data: Dataset, how: Folds) -> str:
    """A hash of all that a division follows from."""
    hashed = hashlib.blake2b(digest_size=16)
    labels = {name: data.labels[name].tolist() for name in sorted(how.labels & set(data.labels.columns))}
    texts = [how.model_dump(mode="json"), sorted(data.seen), list(data.labels.columns)]
    for part in (texts, list(data.utterances), list(data.contents), list(data.corpora), labels):
        hashed.update(json.dumps(part, default=repr).encode())
    if data.segments is not None:
        hashed.update(json.dumps(list(data.segments.recordings)).encode())
        for side in (data.segments.start_s, data.segments.end_s):
            hashed.update(np.ascontiguousarray(side, dtype=np.float64).tobytes())
    return hashed.hexdigest()


def _frozen(fold: Fold) -> Fold:
    return Fold(*map(_read_only, (fold.train, fold.valid, fold.test)))


def _read_only(values: np.ndarray) -> np.ndarray:
    values.setflags(write=False)
    return values
