"""Batches of similar length, and what to do when one does not fit.

Works on lengths and indices alone: it knows neither audio nor model, so every family uses it.
"""

from collections.abc import Callable, Sequence


def buckets(lengths: Sequence[float], max_padded: float, *, equal_only: bool = False) -> list[list[int]]:
    """Groups items of similar length so that little is spent on padding.

    Args:
        lengths: of the items, in any unit.
        max_padded: most that a batch may come to, padding included (its size × its longest length). An item longer
            than that is a batch of its own.
        equal_only: never join different lengths: for models that padding would change.

    Returns:
        Batches of indices into `lengths`, each index once. Longest first, so that a batch that does not fit shows at
        the beginning of a run and not at its end.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        if batches:
            longest = lengths[batches[-1][0]]  # its first item: the order is by length
            fits = (len(batches[-1]) + 1) * longest <= max_padded
            if fits and not (equal_only and lengths[index] != longest):
                batches[-1].append(index)
                continue
        batches.append([index])
    return batches


def run_halving(
    lengths: Sequence[float], max_padded: float, compute: Callable[[list[int]], None], *, equal_only: bool = False
) -> float:
    """Calls `compute` on batches that together hold every item; where one runs out of memory, it and all that come
    after it are divided into batches of half its size, as often as it takes.

    `compute` must leave nothing behind when it fails, since its items will be given to it again.

    Args:
        lengths: of the items, see `buckets`.
        max_padded: see `buckets`.
        compute: is given indices into `lengths`.
        equal_only: see `buckets`.

    Returns:
        The size that batches may have from now on: `max_padded`, unless one did not fit.

    Raises:
        MemoryError: a single item does not fit.
    """
    waiting = buckets(lengths, max_padded, equal_only=equal_only)[::-1]
    while waiting:
        batch = waiting.pop()
        if not _fits(batch, compute):
            max_padded = len(batch) * lengths[batch[0]] / 2
            rest = [*batch, *(index for later in reversed(waiting) for index in later)]
            halved = buckets([lengths[index] for index in rest], max_padded, equal_only=equal_only)
            waiting = [[rest[index] for index in group] for group in reversed(halved)]
    return max_padded


def _fits(batch: list[int], compute: Callable[[list[int]], None]) -> bool:
    # A function of its own: on return the exception is gone, and with it the tensors that its traceback kept alive.
    try:
        compute(batch)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(batch) == 1:
            raise MemoryError("a single window does not fit into memory: lower the view's window_s") from (error)
        return False
    return True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out, on any device: told by name and text, since PyTorch's allocators and
    TensorFlow's each raise their own kind and this file imports none of them."""
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "ResourceExhaustedError"):
        return True
    text = str(error).lower()
    # The last is cuBLAS's and cuDNN's, whose own buffers did not fit.
    phrases = ("out of memory", "can't allocate memory", "not enough memory", "status_alloc_failed")
    return any(phrase in text for phrase in phrases)
