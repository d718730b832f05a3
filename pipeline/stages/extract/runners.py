"""Who computes blocks: threads of this process, or Dask's workers in processes of their own, here or on other machines.

A runner is given a block's number with its recordings, and hands back what came of it, in whatever order. It knows
nothing of stores and commits: that is the stage's business.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TypeVar

from strata.pipeline.errors import StageError
from strata.pipeline.stages.extract import work
from strata.pipeline.stages.extract.decoding import Recording
from strata.pipeline.stages.extract.work import Job, Report
from strata.pipeline.study.params import ExtractStage

Answer = TypeVar("Answer")
Progress = Callable[[float], object]
"""Is told seconds of audio that are done."""


class Crashed(StageError):
    """Recordings that nobody could compute, because every process that tried was lost."""

    @classmethod
    def on(cls, recordings: Sequence[Recording]) -> "Crashed":
        """With the first of them by name."""
        return cls(
            f"{len(recordings)} utterances, the first {recordings[0].audio}, ended every process that computed them: "
            "too little memory, or a worker that is gone? What else could be computed is committed"
        )


class Runner(ABC):
    """Use as a context; processes are started when they are first needed."""

    def __init__(self, job: Job):
        self.job = job

    @property
    @abstractmethod
    def hands(self) -> int:
        """Blocks that are computed at the same time."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """Blocks that were submitted and have not come back."""

    @abstractmethod
    def ask(self, question: Callable[[Job], Answer]) -> Answer:
        """What a function of the job says where the blocks are computed."""

    @abstractmethod
    def submit(self, block: int, recordings: Sequence[Recording], progress: Progress) -> None:
        """Hands out one block."""

    @abstractmethod
    def finished(self) -> list[tuple[Sequence[Recording], Report | Exception]]:
        """Waits until a block has come back; all that have."""

    def __enter__(self) -> "Runner":
        return self

    @abstractmethod
    def __exit__(self, *error) -> None: ...


def runner(how: ExtractStage, job: Job, own_process: bool) -> Runner:
    """The runner that `extract` in params.yaml asks for; a model that shares no process with others never runs here."""
    if how.scheduler or how.workers > 1 or own_process:
        from strata.pipeline.stages.extract.cluster import Cluster

        return Cluster(job, how, own_process)
    return Threads(job)


class Threads(Runner):
    """This process: one block computes while the next is decoded and the last is written."""

    hands = 1

    def __init__(self, job: Job):
        super().__init__(job)
        self._pool = futures.ThreadPoolExecutor(2)
        self._pending: dict[futures.Future, Sequence[Recording]] = {}

    @property
    def pending(self) -> int:
        """See `Runner.pending`."""
        return len(self._pending)

    def ask(self, question: Callable[[Job], Answer]) -> Answer:
        """See `Runner.ask`."""
        return question(self.job)

    def submit(self, block: int, recordings: Sequence[Recording], progress: Progress) -> None:
        """See `Runner.submit`."""
        future = self._pool.submit(work.compute, self.job, block, recordings, progress)
        self._pending[future] = recordings

    def finished(self) -> list[tuple[Sequence[Recording], Report | Exception]]:
        """See `Runner.finished`."""
        done, _ = futures.wait(self._pending, return_when=futures.FIRST_COMPLETED)
        return [(self._pending.pop(future), future.exception() or future.result()) for future in done]

    def __exit__(self, kind, *_) -> None:
        # Whoever interrupts a run does not want to wait for the block at hand.
        self._pool.shutdown(wait=kind is not KeyboardInterrupt, cancel_futures=True)
