"""Which utterances make which block: by duration, so that those of a batch are of one length. Knows no store."""

from collections.abc import Iterator

import pandas as pd

from strata.pipeline.extraction.decoding import Recording
from strata.pipeline.extraction.work import Shape

BLOCK_S = 1800.0
"""Most seconds of audio in a block, one longer recording excepted: what a crash costs …"""
BLOCK_BYTES = 128e6
"""… and most bytes of values: they wait in memory until the block is whole."""
FEWEST_ROWS = 64


def blocks(todo: pd.DataFrame, shape: Shape, block_rows: int, num_workers: int) -> Iterator[list[Recording]]:
    """Recordings of each block, the longest first.

    Args:
        todo: rows to compute, as `study.keys.rows` has them, and the `channel` of each.
        shape: of the values.
        block_rows: most rows of a block.
        num_workers: blocks that can be computed at the same time; there are some for each, but none tiny.
    """
    most_rows = min(block_rows, max(FEWEST_ROWS, -(-len(todo) // (4 * num_workers))))
    block: list[Recording] = []
    seconds = 0.0
    # Equal durations in the order of the content: the same blocks every time.
    for row in todo.sort_values(["duration_s", "content"], ascending=False).itertuples():
        too_long = seconds + row.duration_s > BLOCK_S
        too_large = shape.num_bytes(len(block) + 1, seconds + row.duration_s) > BLOCK_BYTES
        if block and (len(block) == most_rows or too_long or too_large):
            yield block
            block, seconds = [], 0.0
        block.append(Recording(row.content, row.audio, row.start_s, row.duration_s, row.text, row.channel))
        seconds += row.duration_s
    if block:
        yield block
