"""Blocks handed out to a runner and committed as they come back; knows no study and no view.

Whatever goes wrong, what is being computed is brought in first. A block whose processes were lost is tried again. What
the journal has of a block is removed once that is committed.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence

import pandas as pd

from strata.pipeline.errors import StageError
from strata.pipeline.extraction.decoding import Recording
from strata.pipeline.extraction.runners import Crashed, Runner
from strata.pipeline.extraction.work import BlockResult
from strata.pipeline.study.failures import Failures
from strata.store import FeatureStore, Journal

MOST_ATTEMPTS = 4
"""How often a block is tried whose workers are lost."""


def fill(
    store: FeatureStore,
    runner: Runner,
    todo: pd.DataFrame,
    blocks: Sequence[Sequence[Recording]],
    failures: Failures,
    committed: Callable[[BlockResult], object],
    progress: Callable[[float], object],
) -> None:
    """Keeps every worker busy, with one more block waiting for it; after an error, no new ones.

    A block whose processes were lost is tried once more when all others are done: alone, so that it takes nobody along.
    The store is locked, `blocks` is what is to do as `plan` divides it, and `committed` is told of each that is.
    """
    names = todo.set_index("content")[["utterance", "audio"]]
    waiting = deque(blocks)
    doubtful: deque[Sequence[Recording]] = deque()
    attempts: Counter[str] = Counter()
    errors: list[Exception] = []
    journal = Journal(store.storage, store.header)
    crashes: list[Exception] = []

    def hand_out() -> None:
        while waiting and runner.pending < 2 * runner.num_workers:
            runner.submit(store.reserve(), waiting.popleft(), progress)
        if doubtful and not runner.pending:
            runner.submit(store.reserve(), doubtful.popleft(), progress)

    def accept(recordings: Sequence[Recording], outcome: BlockResult | Exception) -> None:
        if isinstance(outcome, Crashed) or (isinstance(outcome, BlockResult) and outcome.claim is None):
            attempts[recordings[0].content] += 1
            tried_enough = attempts[recordings[0].content] >= (2 if isinstance(outcome, Crashed) else MOST_ATTEMPTS)
            if tried_enough:
                crashes.append(Crashed.on(recordings))
            else:
                doubtful.append(recordings)
            return
        if isinstance(outcome, Exception):
            raise outcome
        if outcome.keys:
            _commit(store, journal, outcome, committed)
        for content, failure in outcome.failures.items():
            failures.add(*names.loc[content], content, failure)

    def trying(action: Callable, *arguments) -> None:
        """Whatever goes wrong, the blocks that are being computed are brought in first."""
        try:
            action(*arguments)
        except Exception as error:
            errors.append(error)

    while runner.pending or ((waiting or doubtful) and not errors):
        if not errors:
            trying(hand_out)
        if runner.pending:
            for recordings, outcome in runner.finished():
                trying(accept, recordings, outcome)
    if errors or crashes:
        raise (errors or [StageError("; ".join(map(str, crashes)))])[0]


def _commit(
    store: FeatureStore, journal: Journal, outcome: BlockResult, committed: Callable[[BlockResult], object]
) -> None:
    """Makes a block's rows exist, and tells of it; then they need not wait in the journal any longer."""
    store.commit(outcome.block, outcome.keys, outcome.num_frames, outcome.claim)
    committed(outcome)
    journal.forget(outcome.keys)
