"""Which training utterances make a batch, epoch after epoch.

`batches` is what `training.fit` asks; one pass over its result is one epoch. Knows utterances by their numbers, and
tasks by which utterances they are known of; nothing of features, models or losses.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from strata.trainers.inputs.data import TrainingError


class Shuffled:
    """All utterances once an epoch, in a new order each time; the last batch has what is left."""

    def __init__(self, rows: Int[Tensor, " train"], size: int, seed: int):
        self.rows, self.size = rows, size
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Int[Tensor, " batch"]]:
        """One epoch."""
        yield from self.rows[torch.randperm(len(self.rows), generator=self.generator)].split(self.size)


class Balanced:
    """From every task the same number of utterances in every batch, as many as fit into its size.

    Each task's labelled utterances are drawn in a random order without repetition until all have had their turn, and
    then in a new order; that goes on from epoch to epoch. So a small task's utterances come several times an epoch and
    a large one's not all of them. An utterance that is labelled for several tasks is drawn for each of them, and pulls
    at all of them every time. A task without a labelled training utterance has no share. An epoch has as many batches
    as that of `Shuffled`.
    """

    def __init__(self, rows: Int[Tensor, " train"], known: Bool[np.ndarray, "tasks train"], size: int, seed: int):
        pools = [rows[torch.from_numpy(of_task)] for of_task in known if of_task.any()]
        self.pools = pools or [rows]
        self.share = size // len(self.pools)
        if not self.share:
            raise TrainingError(
                f"balanced batches need a batch_size of at least one per task: expected {len(pools)} or more, "
                f"found {size}"
            )
        self.length = -(-len(rows) // size)
        self.generator = torch.Generator().manual_seed(seed)
        self.waiting = [pool[:0] for pool in self.pools]

    def __iter__(self) -> Iterator[Int[Tensor, " batch"]]:
        """One epoch."""
        for _ in range(self.length):
            yield torch.cat([self._draw(number) for number in range(len(self.pools))])

    def _draw(self, number: int) -> Int[Tensor, " share"]:
        """The next utterances of one task."""
        waiting, pool = self.waiting[number], self.pools[number]
        while len(waiting) < self.share:
            waiting = torch.cat([waiting, pool[torch.randperm(len(pool), generator=self.generator)]])
        self.waiting[number] = waiting[self.share :]
        return waiting[: self.share]


def batches(
    kind: str, rows: Int[np.ndarray, " train"], known: Bool[np.ndarray, "tasks utterances"], size: int, seed: int
) -> Shuffled | Balanced:
    """The batches of a training; each pass over them is an epoch, and each epoch another one.

    Args:
        kind: `shuffled` or `balanced`: see `spec.Optimisation.batches`.
        rows: numbers of the training utterances.
        known: for each task which of all utterances it is labelled for.
        size: utterances per batch, at most.
        seed: of the order.

    Raises:
        TrainingError: balanced batches too small for one utterance of every task.
    """
    train = torch.tensor(rows)
    if kind == "shuffled":
        return Shuffled(train, size, seed)
    return Balanced(train, known[:, rows], size, seed)
