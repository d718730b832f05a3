"""Groups of utterances, dealt into parts of one size or held out by a share, so that every part has its share of all.

`deal` makes the test parts of cross-validation, `held_out` a validation part. Both keep the proportions of classes, as
scikit-learn's StratifiedKFold and StratifiedGroupKFold do where those can: these put classes of fewer members than
parts to chance or refuse them, may leave a part empty, and depend on the order of the rows.

Knows groups by their numbers, classes by theirs; nothing of labels or audio (`folds.groups`). What is left to chance
follows from the keys that it is given, so that the order of the groups never matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int, UInt64
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Groups:
    """What stays together, and of which classes it is.

    A level is one way to say of which class an utterance is. The first levels go from the finest classes to ever
    coarser ones that contain them (speaker and emotion, speaker); the others cut across (emotion).
    """

    sizes: Int[np.ndarray, " groups"]
    """Utterances of each."""
    keys: UInt64[np.ndarray, " groups"]
    """By which chance decides between groups: of a group the same number wherever it stands."""
    levels: Sequence[csr_array]
    """For each level the utterances [groups, classes]."""
    nested: int
    """How many of the levels contain each other; the others cut across."""

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def main(self) -> Int[np.ndarray, "nested groups"]:
        """At every nested level, the coarsest first, the class that most of a group's utterances are of."""
        return np.stack([_main(level) for level in self.levels[self.nested - 1 :: -1]])

    @cached_property
    def is_pure(self) -> np.ndarray:
        """Which groups are of one class, bool [groups]."""
        return np.diff(self.levels[0].indptr) == 1

    @cached_property
    def in_order(self) -> Int[np.ndarray, " groups"]:
        """All groups, class after class: those of a coarse class follow each other, within it those of a finer one.

        Which class comes when, and which group within its class, is chance.
        """
        by_chance = [_first_keys(classes, self.keys) for classes in self.main]
        return np.lexsort([self.keys, *by_chance[::-1]])


def deal(groups: Groups, num_parts: int, rng: np.random.Generator) -> Int[np.ndarray, " groups"]:
    """The part of each group: as many utterances in each and as many of every class as can be, and no part empty.

    One pile after the other is dealt, each group to the part that has the fewest utterances of its own classes so far,
    the finest classes first; of equal ones to the smallest, then to that with the fewest by the levels that cut across.
    Groups of several classes are dealt first and the most of a class at a time, so that what follows can make up for
    them; groups of one utterance come class after class and level out what is left.

    Where every group is one utterance, each part has of every class, at every nested level, and of all, its share
    rounded up or down: within a coarse class, the parts are gone through in rounds. No part stays empty, since an empty
    one has the fewest utterances of any class.

    Args:
        groups: at least `num_parts`.
        num_parts: k.
        rng: for what keys do not decide, in an order that they do.
    """
    part_of = np.empty(len(groups), np.int64)
    table = _Table(groups, num_parts)
    for pile in _piles(groups, num_parts):
        part_of[pile] = np.repeat(np.arange(num_parts), table.take(pile, rng.permutation(num_parts).tolist()))
    _fill_up(part_of, groups, num_parts)
    return part_of


def held_out(groups: Groups, share: float, start: float) -> np.ndarray:
    """Which groups are held out, bool [groups]: about `share` of all utterances, of each class, and at least one group.

    The classes are gone through one after the other, and whenever enough utterances are owed a group is held out. So
    the sum is right within one group, and so is that of every run of groups, those of a class among them.

    As long as the share can be had otherwise, no class is held out whole: nobody validates who was not heard in
    training. (`folds.doubts` tells where it cannot.)

    Args:
        groups: at least two.
        share: of the utterances, between 0 and 0.5.
        start: where between two groups to begin, from -0.5 to 0.5.
    """
    wanted = share * groups.sizes.sum()
    held = np.zeros(len(groups), bool)
    for classes in groups.main[::-1]:
        among = groups.in_order[(np.bincount(classes)[classes] > 1)[groups.in_order]]
        # At half or less, a class of two or more is never held out whole.
        if groups.sizes[among].sum() >= 2 * wanted:
            break
    else:
        # All but one of each of the coarsest classes, and where these are not enough the others as well.
        classes = groups.main[0][groups.in_order]
        first = np.zeros(len(groups), bool)
        first[np.unique(classes, return_index=True)[1]] = True
        among, others = groups.in_order[~first], groups.in_order[first]
        if groups.sizes[among].sum() < wanted:
            held[among] = True
            wanted -= groups.sizes[among].sum()
            among = others
    held[among[_walk(groups.sizes[among], wanted, start)]] = True
    if not held.any():
        held[min(range(len(groups)), key=lambda group: (abs(groups.sizes[group] - wanted), groups.keys[group]))] = True
    _let_all_be_heard(groups, held, classes)
    if held.all():
        held[np.lexsort([groups.keys, groups.sizes])[0]] = False
    return held


def _let_all_be_heard(groups: Groups, held: np.ndarray, classes: Int[np.ndarray, " groups"]) -> None:
    """Of every class of several groups that is held out whole one group trains, and another of the like size does not.

    So it happens where groups are of unequal size. Where no class can spare a group, all stays as it is.
    """
    several = np.bincount(classes)
    kept = np.bincount(classes[~held], minlength=len(several))
    for silent in np.flatnonzero((several > 1) & (kept == 0)):
        own = np.flatnonzero(classes == silent)
        freed = own[np.lexsort([groups.keys[own], groups.sizes[own]])[0]]
        spare = np.flatnonzero(~held & (kept[classes] > 1))
        if not len(spare):
            return
        unlike = np.abs(groups.sizes[spare] - groups.sizes[freed])
        taken = spare[np.lexsort([groups.keys[spare], unlike])[0]]
        held[freed], held[taken] = False, True
        kept[silent] += 1
        kept[classes[taken]] -= 1


def _walk(sizes: np.ndarray, wanted: float, start: float) -> np.ndarray:
    """Which of some groups to take, one after the other, so that the sum of any run of them is about its share."""
    total = int(sizes.sum())
    rate, owed = wanted / total if total else 0.0, start * total / max(1, len(sizes))
    places = []
    for place, (size, due) in enumerate(zip(sizes.tolist(), (rate * sizes).tolist(), strict=True)):
        owed += due
        if 2 * owed >= size:
            owed -= size
            places.append(place)
    taken = np.zeros(len(sizes), bool)
    taken[places] = True
    return taken


class _Table:
    """How many utterances of every class lie in every part."""

    def __init__(self, groups: Groups, num_parts: int):
        self.groups, self.num_parts = groups, num_parts
        self.sizes = [0] * num_parts
        self.counts = [[[0] * num_parts for _ in range(level.shape[1])] for level in groups.levels]
        self.totals = [level.sum(axis=0).tolist() for level in groups.levels]
        self._rows = [(level.indptr.tolist(), level.indices.tolist(), level.data.tolist()) for level in groups.levels]

    def take(self, pile: Int[np.ndarray, " pile"], chance: Sequence[int]) -> list[int]:
        """Deals groups that are all alike.

        Args:
            pile: their numbers.
            chance: a rank of each part, which decides between equals.

        Returns:
            How many of them each part gets.
        """
        size = int(self.groups.sizes[pile[0]])
        members = [self._of(level, int(pile[0])) for level in range(len(self.counts))]
        given = [0] * self.num_parts
        if len(pile) > 1 and len(members[0]) == 1:
            given = _levelled(self.counts[0][members[0][0][0]], len(pile), size)
            self._add(members, size, given)
        if left := len(pile) - sum(given):
            fewest = sorted(range(self.num_parts), key=lambda part: (*self._cost(members, part), chance[part]))[:left]
            rest = [0] * self.num_parts
            for part in fewest:
                rest[part] = 1
            self._add(members, size, rest)
            given = [one + more for one, more in zip(given, rest, strict=True)]
        return given

    def _of(self, level: int, group: int) -> list[tuple[int, int]]:
        """The classes of a group, and how many of its utterances are of each."""
        begins, classes, counts = self._rows[level]
        where = slice(begins[group], begins[group + 1])
        return list(zip(classes[where], counts[where], strict=True))

    def _cost(self, members: Sequence[list[tuple[int, int]]], part: int) -> list[int | float]:
        """For each level by how much Σ (utterances of a class in a part)² / (of the class in all) would grow."""
        costs = []
        for counts, totals, of_level in zip(self.counts, self.totals, members, strict=True):
            if len(of_level) == 1:
                costs.append(counts[of_level[0][0]][part])
            else:
                found = sum(count * counts[number][part] / totals[number] for number, count in of_level)
                costs.append(round(found, 9))
        costs.insert(self.groups.nested, self.sizes[part])
        return costs

    def _add(self, members: Sequence[list[tuple[int, int]]], size: int, given: Sequence[int]) -> None:
        for counts, of_level in zip(self.counts, members, strict=True):
            for number, count in of_level:
                row = counts[number]
                for part, how_many in enumerate(given):
                    row[part] += count * how_many
        for part, how_many in enumerate(given):
            self.sizes[part] += size * how_many


def _levelled(heights: Sequence[int], how_many: int, size: int) -> list[int]:
    """How many of so many equal things each pile gets in full rounds, the lower piles first, until all are as high."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    given, filled, level = [0] * len(heights), 0, 0.0
    for count, pile in enumerate(order, start=1):
        filled += heights[pile]
        reached = (how_many * size + filled) / count
        if count > 1 and reached < heights[pile]:
            break
        level, lowest = reached, order[:count]
    for pile in lowest:
        given[pile] = int((level - heights[pile]) / size + 1e-9)
    return given


def _piles(groups: Groups, num_parts: int) -> list[np.ndarray]:
    """The groups in the order in which they are dealt; in piles, where several are alike."""
    order = groups.in_order
    finest, classes = groups.levels[0], groups.main[-1]
    ones = order[groups.sizes[order] == 1]
    piles = np.split(ones, np.flatnonzero(np.diff(classes[ones])) + 1) if len(ones) else []
    larger = order[groups.sizes[order] > 1]
    if not len(larger):
        return piles
    kinds = np.where(groups.is_pure, classes * (groups.sizes.max() + 1) + groups.sizes, -1 - np.arange(len(groups)))
    _, kind, count = np.unique(kinds[larger], return_inverse=True, return_counts=True)
    many = count[kind] >= num_parts
    # What a group adds to Σ n² / N, and by chance up to as much again: else there would be but one way to deal.
    shares = finest.data.astype(np.float64) ** 2 / finest.sum(axis=0)[finest.indices]
    weights = np.log2(np.add.reduceat(shares, finest.indptr[:-1]))[larger]
    weights += np.where(many, 0.5, groups.keys[larger] / 2**64)
    # Alike are of one weight, and so come together.
    sequence = np.lexsort([groups.keys[larger], np.where(many, kind, -1), -weights])
    sequence, kind, many = larger[sequence], kind[sequence], many[sequence]
    begins = np.flatnonzero((np.diff(kind) != 0) | ~many[1:]) + 1
    return [*np.split(sequence, begins), *piles]


def _fill_up(part_of: np.ndarray, groups: Groups, num_parts: int) -> None:
    """Of two parts each keeps two groups where there are four: one to train on, one to validate, when it is not tested.

    Of more parts any other two have at least one each.
    """
    if num_parts != 2 or len(groups) < 4:
        return
    for part in range(2):
        while np.count_nonzero(part_of == part) < 2:
            others = np.flatnonzero(part_of != part)
            part_of[others[np.lexsort([groups.keys[others], groups.sizes[others]])[0]]] = part


def _main(level: csr_array) -> np.ndarray:
    """The most frequent class of each group; of equal ones the first."""
    if level.nnz == level.shape[0]:
        return level.indices
    rows = np.repeat(np.arange(level.shape[0]), np.diff(level.indptr))
    return level.indices[np.lexsort([level.indices, -level.data, rows])[level.indptr[:-1]]]


def _first_keys(classes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """For each group the smallest key in its class."""
    first = np.full(classes.max() + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(first, classes, keys)
    return first[classes]
