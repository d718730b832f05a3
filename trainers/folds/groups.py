"""Which utterances belong together when they are divided, and by which labels: from labels and audio to numbers.

Utterances that share audio are never separated: recordings of the same content, and segments of one recording that
overlap. Nor are those that share the label of `folds.disjoint`, and nothing that hangs together by a chain of both.

Makes what `folds.division` divides, for `folds` and `folds.given`. Whatever order the rows have, a group
has the same key, a class the same number, and chance decides alike: all follow from contents and labels.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from strata.trainers.folds.division import Groups
from strata.trainers.inputs.data import Segments, TrainingError
from strata.trainers.spec import Folds
from strata.trainers.suggestion import nearest

AUDIO = "audio"
"""What `folds.disjoint` calls the recording that an utterance is, or is a segment of."""


class Utterances:
    """What all divisions of the same utterances share."""

    def __init__(self, labels: pd.DataFrame, contents: Sequence[str], folds: Folds, segments: Segments | None = None):
        """Takes what there is to divide.

        Args:
            labels: one row per utterance.
            contents: identity of the audio of each.
            folds: by what to divide.
            segments: of which recording each is which part; each is one of its own where not given.
        """
        self.labels, self.folds, self.segments = labels, folds, segments
        self.contents = np.asarray(contents, dtype=object)
        self._keys: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.contents)

    @cached_property
    def groups(self) -> np.ndarray:
        """Numbers [utterances] that two share if they must not be separated.

        Raises:
            TrainingError: an unknown label, or utterances without it.
        """
        sharing = [pd.factorize(self.contents)[0]]
        if self.segments is not None:
            sharing.append(self.segments.overlaps())
        if self.folds.disjoint is not None:
            sharing.append(pd.factorize(self.disjoint)[0])
        found = sharing[0]
        for other in sharing[1:]:
            found = _joined(found, other)
        return found

    @property
    def disjoint(self) -> pd.Series:
        """The label of `folds.disjoint` of every utterance."""
        name = self.folds.disjoint
        if name == AUDIO and AUDIO not in self.labels:
            return pd.Series(self.contents if self.segments is None else np.asarray(self.segments.recordings, object))
        column = self.column(name)
        if column.isna().any():
            raise TrainingError(
                f"folds.disjoint: {column.isna().sum()} utterances have no {name!r}; label or drop them"
            )
        return column

    def column(self, name: str) -> pd.Series:
        """A label of every utterance."""
        if name not in self.labels:
            close = nearest(name, self.labels.columns)
            hint = f", did you mean {close!r}?" if close else ""
            raise TrainingError(
                f"folds: the manifest has no label {name!r}{hint}; it has {', '.join(self.labels.columns)}"
            )
        return self.labels[name]

    @cached_property
    def classes(self) -> tuple[list[np.ndarray], int]:
        """For each level of `division.Groups` the class of every utterance; and how many levels are nested."""
        columns = [self.column(name).astype(object) for name in self.folds.stratified]
        single = [pd.factorize(c.where(c.notna(), "").astype(str), sort=True)[0] for c in columns]
        if not single:
            return [np.zeros(len(self), np.int64)], 1
        nested = [single[0]]
        for classes in single[1:]:
            nested.append(pd.factorize(nested[-1] * (classes.max() + 1) + classes, sort=True)[0])
        return [*nested[::-1], *single[1:]], len(nested)

    def among(self, rows: np.ndarray, purpose: str) -> tuple[Groups, np.ndarray]:
        """The groups of some utterances.

        Args:
            rows: their numbers.
            purpose: makes chance decide otherwise than for another.

        Returns:
            The groups, and the number of its group for each of `rows`.
        """
        here = self.groups[rows]
        there = np.bincount(here) > 0
        numbers = (np.cumsum(there) - 1)[here]
        sizes = np.bincount(numbers)
        levels = [_counts(numbers, classes[rows], len(sizes)) for classes in self.classes[0]]
        keys = np.full(len(sizes), np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(keys, numbers, self.keys(purpose)[rows])
        return Groups(sizes, keys, levels, self.classes[1]), numbers

    def keys(self, purpose: str) -> np.ndarray:
        """A hash of each utterance's content, uint64; another one for every seed of the folds and every purpose."""
        if purpose not in self._keys:
            salt = hashlib.blake2b(self._salt(purpose), digest_size=8).hexdigest()  # 16 characters, as pandas wants
            self._keys[purpose] = pd.util.hash_array(self.contents, hash_key=salt, categorize=False)
        return self._keys[purpose]

    def rng(self, purpose: str) -> np.random.Generator:
        """For what keys do not decide."""
        return np.random.default_rng(int.from_bytes(hashlib.blake2b(self._salt(purpose), digest_size=16).digest()))

    def _salt(self, purpose: str) -> bytes:
        return f"{self.folds.seed} {purpose}".encode()

    def named(self, count: int) -> str:
        """So many groups, as an error tells them."""
        name = self.folds.disjoint
        if name is not None and name != AUDIO:
            what = f"value{'s' * (count != 1)} of {name!r}"
        else:
            what = f"{'recording' if name else 'utterance'}{'s' * (count != 1)}"
        apart = len(np.unique(self.disjoint if name is not None else np.arange(len(self))))
        if apart > len(np.unique(self.groups)):
            what += ", counting what shares audio as one,"
        return f"{count} {what}"


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Numbers that two utterances share if they share one of either, directly or in a chain."""
    offset = first.max() + 1
    size = offset + second.max() + 1
    edges = coo_array((np.ones(len(first), bool), (first, second + offset)), shape=(size, size))
    return connected_components(edges, directed=False)[1][first]


def _counts(groups: np.ndarray, classes: np.ndarray, num_groups: int) -> csr_array:
    """How many utterances [groups, classes] of which class a group has."""
    _, numbers = np.unique(classes, return_inverse=True)
    counts = coo_array((np.ones(len(groups), np.int64), (groups, numbers)), shape=(num_groups, numbers.max() + 1))
    found = counts.tocsr()
    found.sort_indices()
    return found
