"""Blocks in threads of this process: one computes while the next is decoded and the last is written."""

from collections.abc import Callable, Sequence
from concurrent import futures

from strata.pipeline.extraction import work
from strata.pipeline.extraction.decoding import Recording
from strata.pipeline.extraction.runners import Progress, Result, Runner
from strata.pipeline.extraction.work import BlockResult, Extraction


class Threads(Runner):
    """This process: one block computes while the next is decoded and the last is written."""

    num_workers = 1

    def __init__(self, extraction: Extraction):
        super().__init__(extraction)
        self._pool = futures.ThreadPoolExecutor(2)
        self._pending: dict[futures.Future, Sequence[Recording]] = {}

    @property
    def pending(self) -> int:
        """See `Runner.pending`."""
        return len(self._pending)

    def ask(self, question: Callable[[Extraction], Result]) -> Result:
        """See `Runner.ask`."""
        return question(self.extraction)

    def submit(self, block: int, recordings: Sequence[Recording], progress: Progress) -> None:
        """See `Runner.submit`."""
        future = self._pool.submit(work.compute, self.extraction, block, recordings, progress)
        self._pending[future] = recordings

    def finished(self) -> list[tuple[Sequence[Recording], BlockResult | Exception]]:
        """See `Runner.finished`."""
        done, _ = futures.wait(self._pending, return_when=futures.FIRST_COMPLETED)
        return [(self._pending.pop(future), future.exception() or future.result()) for future in done]

    def __exit__(self, kind, *_) -> None:
        # Whoever interrupts a run does not want to wait for the block at hand.
        self._pool.shutdown(wait=kind is not KeyboardInterrupt, cancel_futures=True)
