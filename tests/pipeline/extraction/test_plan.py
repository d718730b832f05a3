"""Blocks are whole chunks where they can be, take the room announced, and are the same after an interruption."""

import numpy as np
import pandas as pd
import pytest

from strata.pipeline.extraction import plan
from strata.pipeline.extraction.work import Shape
from strata.store import FeatureStore
from strata.store.blocks import Rows

LAYERS = ("0", "1", "2")


def table(durations) -> pd.DataFrame:
    """Rows to compute, with such durations in seconds."""
    contents = [f"{number:04d}" for number in range(len(durations))]
    frame = pd.DataFrame({"content": contents, "audio": contents, "duration_s": durations})
    return frame.assign(start_s=0.0, text=None, channel=None)


def create(folder, block_rows, **changes) -> FeatureStore:
    """An empty store of three layers."""
    how = {"fingerprint": {"family": "test"}, "layer_names": LAYERS, "dim": 97, "block_rows": block_rows}
    return FeatureStore.create(folder / "view.zarr", **how | changes)


@pytest.mark.parametrize(
    ("durations", "block_rows", "workers", "expected"),
    [
        ([5.0] * 300, 320, 1, [128, 128, 44]),  # a quarter of the rows each, in whole chunks
        ([5.0] * 300, 320, 4, [64, 64, 64, 64, 44]),  # never tiny
        ([5.0] * 2000, 320, 1, [320, 320, 320, 320, 320, 320, 80]),  # no more than a block has
        ([25.0] * 300, 320, 1, [64, 64, 64, 64, 44]),  # half an hour is 72 rows, of which 64 are a chunk
        ([600.0] * 7, 64, 1, [3, 3, 1]),  # and where it is less than a chunk, so be it
        ([7200.0, 1.0], 64, 1, [1, 1]),
        ([5.0] * 30, 11, 1, [11, 11, 8]),  # a chunk is a block here
    ],
)
def test_blocks_are_whole_chunks(tmp_path, durations, block_rows, workers, expected):
    """Every row once, the longest first."""
    todo = table(durations)
    blocks = plan.blocks(todo, create(tmp_path, block_rows).header, workers)
    assert [len(block) for block in blocks] == expected
    planned = [recording for block in blocks for recording in block]
    assert sorted(recording.content for recording in planned) == todo["content"].tolist()
    assert [recording.duration_s for recording in planned] == sorted(durations, reverse=True)


@pytest.mark.parametrize("frame_layers", [(), ("1", "2")])
def test_what_is_announced_is_what_is_written(tmp_path, frame_layers):
    """To the byte where the frames are as many as expected, what fills a chunk included."""
    store = create(tmp_path, 320, frame_layers=frame_layers, frame_rate_hz=50.0)
    blocks = plan.blocks(table([0.3] * 300), store.header, 1)
    empty = store.num_bytes()
    for block in blocks:
        counts = np.full(len(block), Shape.of(store.header).num_frames(0.3), np.int32)
        frames = {layer: [np.ones((count, 97), np.float32) for count in counts] for layer in frame_layers}
        rows = Rows([r.content for r in block], np.ones((len(block), 3, 97), np.float32), counts, frames)
        store.append(rows.keys, rows.pooled, rows.num_frames, rows.frames)
    announced = sum(plan.size(store.header, block) for block in blocks)
    assert store.num_bytes() - empty == pytest.approx(announced, abs=30)  # the arrays' new lengths, in their documents
    values = 4 * 300 * (3 * 97 + 15 * 97 * len(frame_layers))
    assert announced < values * 1.1 + 3 * 320 * 68 + len(frame_layers) * 3 * 2**20


def test_blocks_of_a_run_that_was_stopped_are_the_same_again(tmp_path):
    """Those that were committed left out, rows that have left too, and new ones behind them."""
    header, durations = create(tmp_path, 320).header, np.random.default_rng(0).uniform(1, 9, 700)
    first = plan.blocks(table(durations), header, 1)
    contents = [[recording.content for recording in block] for block in first]
    todo = table([*durations, 4.0, 5.0])
    gone = contents[1][3]
    todo = todo[~todo["content"].isin([*contents[0], gone])]
    again = [[r.content for r in block] for block in plan.blocks(todo, header, 4, contents[1:])]
    contents[1].remove(gone)
    assert again == [*contents[1:], ["0701", "0700"]]
