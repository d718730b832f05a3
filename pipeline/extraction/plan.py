"""Which utterances make which block: by duration, so that those of a batch are of one length. Knows no store."""

from collections.abc import Iterator, Sequence

import pandas as pd

from strata.pipeline.extraction.decoding import Recording
from strata.pipeline.extraction.work import Shape
from strata.store.blocks import num_bytes
from strata.store.layout import BLOCK_S, Header

BLOCK_BYTES = 128e6
"""Most bytes of values in a block: they wait in memory until it is whole."""
FEWEST_ROWS = 64


def blocks(
    todo: pd.DataFrame, header: Header, num_workers: int, planned: Sequence[Sequence[str]] = ()
) -> list[list[Recording]]:
    """Recordings of each block, the longest first.

    Args:
        todo: rows to compute, as `study.keys.rows` has them, and the `channel` of each.
        header: of the store.
        num_workers: blocks that can be computed at the same time; there are some for each, but none tiny.
        planned: contents of each block that an earlier run was to fill and has not: they stay together, and in order,
            so that all is as if it had not been stopped.
    """
    # Equal durations in the order of the content: the same blocks every time.
    ordered = todo.sort_values(["duration_s", "content"], ascending=False)
    waiting = {
        r.content: Recording(r.content, r.audio, r.start_s, r.duration_s, r.text, r.channel)
        for r in ordered.itertuples()
    }
    resumed = [[waiting.pop(content) for content in block if content in waiting] for block in planned]
    return [block for block in resumed if block] + list(_divided(list(waiting.values()), header, num_workers))


def size(header: Header, block: Sequence[Recording]) -> int:
    """Bytes of a block on the disk, about: how many frames there will be is not known."""
    return num_bytes(header, len(block), Shape.of(header).num_frames(sum(r.duration_s for r in block)))


def _divided(recordings: list[Recording], header: Header, num_workers: int) -> Iterator[list[Recording]]:
    chunk = header.chunk_rows
    wanted = max(FEWEST_ROWS, -(-len(recordings) // (4 * num_workers)))
    most_rows = min(header.block_rows, -(-wanted // chunk) * chunk)
    while recordings:
        count = _fitting(recordings[:most_rows], Shape.of(header))
        if chunk < count < len(recordings):
            count -= count % chunk  # the rest of a chunk takes as much room as rows do
        yield recordings[:count]
        recordings = recordings[count:]


def _fitting(recordings: Sequence[Recording], shape: Shape) -> int:
    """How many of the first ones make a block of bounded size, one at least."""
    seconds = 0.0
    for count, recording in enumerate(recordings):
        seconds += recording.duration_s
        if count and (seconds > BLOCK_S or shape.num_bytes(count + 1, seconds) > BLOCK_BYTES):
            return count
    return len(recordings)
