"""Which training utterances make a batch, epoch after epoch, and their values.

`batches` is what `training.fit` asks; one pass over its result is one epoch. It knows utterances by their numbers, and
tasks by which utterances they are known of. `gathered` brings the values. Nothing here knows models or losses.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from strata.trainers.inputs.data import TrainingError
from strata.trainers.inputs.pooled import Pooled


class Shuffled:
    """All utterances once an epoch, in a new order each time; the last batch has what is left."""

    def __init__(self, rows: Int[Tensor, " train"], size: int, seed: int):
        self.rows, self.size = rows, size
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Int[Tensor, " batch"]]:
        """One epoch."""
        yield from self.rows[self._order()].split(self.size)

    def _order(self) -> Int[Tensor, " train"]:
        return torch.randperm(len(self.rows), generator=self.generator)


class ShuffledRuns(Shuffled):
    """All utterances once an epoch; those that lie beside each other stay together, runs and rows in a new order.

    For values that are read from a disk again in every epoch, where runs are read many times faster than single rows.
    """

    def __init__(self, rows: Int[Tensor, " train"], size: int, seed: int, runs: Int[np.ndarray, " train"]):
        super().__init__(rows, size, seed)
        order = np.argsort(runs, kind="stable")
        places = np.flatnonzero(np.diff(runs[order])) + 1
        self.runs = torch.from_numpy(order).tensor_split(torch.from_numpy(places))

    def _order(self) -> Int[Tensor, " train"]:
        runs = [self.runs[run] for run in torch.randperm(len(self.runs), generator=self.generator)]
        return torch.cat([run[torch.randperm(len(run), generator=self.generator)] for run in runs])


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
    kind: str,
    rows: Int[np.ndarray, " train"],
    known: Bool[np.ndarray, "tasks utterances"],
    size: int,
    seed: int,
    features: Sequence[Pooled] = (),
) -> Shuffled | Balanced:
    """The batches of a training; each pass over them is an epoch, and each epoch another one.

    Args:
        kind: `shuffled` or `balanced`: see `spec.Optimisation.batches`.
        rows: numbers of the training utterances.
        known: for each task which of all utterances it is labelled for.
        size: utterances per batch, at most.
        seed: of the order.
        features: what will be read: the largest of it says whether utterances are read one by one or in runs.

    Raises:
        TrainingError: balanced batches too small for one utterance of every task.
    """
    if kind == "balanced":
        return Balanced(torch.tensor(rows), known[:, rows], size, seed)
    return shuffled(rows, size, seed, features)


def shuffled(rows: Int[np.ndarray, " train"], size: int, seed: int, features: Sequence[Pooled]) -> Shuffled:
    """Batches in random order, for any tasks: see `batches`."""
    train = torch.tensor(rows)
    largest = max(features, key=lambda view: view.nbytes, default=None)
    if largest is None or largest.values.run == 1:
        return Shuffled(train, size, seed)
    return ShuffledRuns(train, size, seed, largest.rows[rows] // largest.values.run)


def gathered(
    features: Sequence[Pooled], batches: Iterable[Tensor], device: torch.device | str = "cpu"
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Every batch of numbers with its values, a tensor [batch, layers, dim] per view; the next one is on its way.

    The tensors are good until the next batch is asked for, whose values take their place.
    """
    waiting: deque[Tensor] = deque()
    room = [np.empty((0, *view.shape[1:]), np.float32) for view in features]
    for rows in itertools.chain(batches, [None]):
        if rows is not None:
            waiting.append(rows)
            for view in features:
                view.expect(rows.numpy())
        if len(waiting) > (rows is not None):
            now = waiting.popleft()
            if room and len(room[0]) < len(now):
                room = [np.empty((len(now), *view.shape[1:]), np.float32) for view in features]
            given = [view.take(now.numpy(), out[: len(now)])[0] for view, out in zip(features, room, strict=True)]
            yield now, [torch.from_numpy(values).to(device) for values in given]
