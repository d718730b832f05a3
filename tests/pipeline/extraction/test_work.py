"""A block that several machines compute, one after the other."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from strata.extractors import HiddenStates
from strata.pipeline.extraction import filling, work
from strata.pipeline.extraction.decoding import Recording
from strata.pipeline.extraction.work import BlockResult, Extraction
from strata.store import FeatureStore, Journal, blocks
from strata.store.blocks import Rows

RECORDINGS = [Recording(f"{i:032x}", f"{i}.wav", 0.0, 1.0) for i in range(6)]


@dataclass
class Machine:
    """A model that is one machine's; gone when it is asked once more than `portions` times."""

    in_float32: tuple[str, ...]
    portions: int
    fingerprint = {"compute_dtype": "bfloat16"}  # noqa: RUF012 -- nobody changes it
    device, unusable = "cpu", None

    def extract(self, waveforms, sampling_rate):
        """The same value for all."""
        if not self.portions:
            raise ConnectionError("the machine is gone")
        self.portions -= 1
        return [HiddenStates(np.ones((1, 2), np.float32), 1, {}) for _ in waveforms]


@pytest.fixture
def store(tmp_path):
    """An empty one of `Machine`'s values."""
    return FeatureStore.create(
        tmp_path / "view.zarr", fingerprint=Machine.fingerprint, layer_names=["0"], dim=2, block_rows=64
    )


def test_modules_computed_in_float32_are_those_of_every_machine_that_gave_rows(store, monkeypatch):
    """The machine that finishes a block tells of those of the machine whose rows waited in the journal, too."""
    monkeypatch.setattr(work, "divided", lambda recordings, seconds: [recordings[:3], recordings[3:]])
    monkeypatch.setattr(work, "decoded", lambda _, portions, __: ((p, [np.zeros(4)] * len(p)) for p in portions))
    extraction = Extraction("", str(store.path), "", "cpu", None, keep_s=0.0)
    first, second = Machine(("b.conv",), portions=1), Machine(("a.conv",), portions=1)
    with store.locked():
        monkeypatch.setattr(work, "extractor", lambda _: first)
        with pytest.raises(ConnectionError):
            work.compute(extraction, store.reserve(), RECORDINGS)
        monkeypatch.setattr(work, "extractor", lambda _: second)
        result = work.compute(extraction, store.reserve(), RECORDINGS)
    assert result.in_float32 == ("a.conv", "b.conv")
    assert len(result.keys) == 6


class Runner:
    """Computes at once; hands back one block at a time."""

    num_workers = 1

    def __init__(self, store: FeatureStore):
        self.store, self.done = store, []

    @property
    def pending(self) -> int:
        """Blocks that have not been handed back."""
        return len(self.done)

    def submit(self, block, recordings, _):
        """Writes the block."""
        claim, rows = self.store.claim(block), rows_of(recordings)
        self.store.write_block(block, rows, claim)
        self.done.append((recordings, BlockResult(block, claim, list(rows.keys), [1] * len(rows.keys))))

    def finished(self):
        """The first of them."""
        yield self.done.pop(0)


def rows_of(recordings) -> Rows:
    """Some values of recordings."""
    count = len(recordings)
    return Rows([r.content for r in recordings], np.ones((count, 1, 2), np.float32), np.ones(count, np.int32), {})


def test_the_keys_of_what_waits_are_read_once_however_many_blocks_are_committed(store, monkeypatch):
    """Each commit asks which entries may go; what an entry holds never changes."""
    todo = pd.DataFrame([{"content": r.content, "utterance": r.content, "audio": r.audio} for r in RECORDINGS])
    waiting = Journal(store.storage, store.header)
    for recording in RECORDINGS:
        waiting.add(rows_of([recording]))
    read, read_keys = [], blocks.read_keys

    def counting(storage, header, number):
        if storage.place == waiting.place:
            read.append(number)
        return read_keys(storage, header, number)

    monkeypatch.setattr(blocks, "read_keys", counting)
    with store.locked():
        filling.fill(store, Runner(store), todo, [[r] for r in RECORDINGS], None, lambda _: None, lambda _: None)
    assert len(store) == len(RECORDINGS) == len(read)
    assert waiting.keys == set()
