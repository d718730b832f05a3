"""Blocks over Dask: workers started here (`extract.workers`), or those of a scheduler (`extract.scheduler: tcp://…`).

Dask notices lost workers and gives their blocks to others. It may also take a worker for lost that still writes, and it
may run a block again whose result was lost: the store's claims see to it that the second attempt is turned away, and
the stage then gives its recordings another block. One worker drives one device with two threads: one block computes
while the other is decoded or written.

TensorFlow and PyTorch do not share a process: workers started here serve one view, and on a scheduler the views of
TensorFlow go to the workers that were started with `--resources tensorflow=1`, all others to the rest.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from glob import glob

import distributed

from strata.pipeline.errors import StageError
from strata.pipeline.extraction import work
from strata.pipeline.extraction.decoding import Recording
from strata.pipeline.extraction.runners import Crashed, Progress, Result, Runner
from strata.pipeline.extraction.work import BlockResult, Extraction
from strata.pipeline.progress import say
from strata.pipeline.scheduler import connected
from strata.pipeline.study.params import ExtractStage

PATIENCE_S = 30
"""How long to wait for a scheduler to answer and for a worker to appear there."""
START_S = 600
"""How long workers of one's own may take to start again, after which there is none: a machine may be busy."""
RESOURCE = "tensorflow"
MOST_QUESTIONS = 3


@dataclass(frozen=True)
class _Submitted:
    block: int
    recordings: Sequence[Recording]
    progress: Progress
    workers: frozenset[str]
    """Addresses of those that may compute it; none where all may."""


class Cluster(Runner):
    """Workers in processes of their own."""

    def __init__(self, extraction: Extraction, how: ExtractStage, own_process: bool):
        super().__init__(extraction)
        self._how = how
        self._own_process = own_process
        self._pending: dict[distributed.Future, _Submitted] = {}
        self._to_close: list = []

    @property
    def num_workers(self) -> int:
        """See `Runner.num_workers`."""
        return len(self._workers())

    @property
    def pending(self) -> int:
        """See `Runner.pending`."""
        return len(self._pending)

    def ask(self, question: Callable[[Extraction], Result]) -> Result:
        """See `Runner.ask`."""
        for _ in range(MOST_QUESTIONS):
            with self._talking():
                workers = self._pinned()
                future = self._client.submit(_ask, self.extraction, question, pure=False, workers=workers or None)
                self._wait({future: frozenset(workers)})
                error = future.exception() if future.done() else None
            if isinstance(error, distributed.KilledWorker):
                break
            if error is not None:
                raise error
            if future.done():
                return future.result()
        raise Crashed(
            f"loading the model of {self.extraction.section} ended every worker that tried: too little memory?"
        )

    def submit(self, block: int, recordings: Sequence[Recording], progress: Progress) -> None:
        """See `Runner.submit`."""
        with self._talking():
            workers = self._pinned()
            future = self._client.submit(
                _compute, self.extraction, block, recordings, pure=False, workers=workers or None
            )
            self._pending[future] = _Submitted(block, recordings, progress, frozenset(workers))

    def finished(self) -> list[tuple[Sequence[Recording], BlockResult | Exception]]:
        """See `Runner.finished`. A block all of whose workers are gone comes back unclaimed."""
        try:
            with self._talking():
                done = self._wait({future: submitted.workers for future, submitted in self._pending.items()})
                return [self._outcome(future, self._pending.pop(future)) for future in done]
        except StageError:
            self._pending.clear()  # with the scheduler gone, nothing of it comes back
            raise

    def __exit__(self, *_) -> None:
        for what in reversed(self._to_close):
            with suppress(Exception):  # a scheduler that is gone cannot be taken leave of
                what.close()

    def _wait(self, futures: Mapping[distributed.Future, frozenset[str]]) -> list[distributed.Future]:
        """Waits until some have come back, or can come back no more because the workers named with them are gone."""
        while True:
            try:
                return list(distributed.wait(list(futures), timeout=1, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                alive = set(self._workers())
                lost = [future for future, workers in futures.items() if workers and not workers & alive]
                if lost:
                    return lost

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Turns whatever a lost scheduler makes of a conversation into one line."""
        try:
            yield
        except StageError:
            raise
        except (CancelledError, OSError, ValueError, RuntimeError) as error:
            raise StageError(
                f"the Dask scheduler at {self._how.scheduler or 'this machine'} is gone ({type(error).__name__}); "
                "what was committed stays: start it again, and the same command goes on from there"
            ) from error

    @cached_property
    def _client(self) -> distributed.Client:
        address = self._how.scheduler
        if address is None:
            cluster = self._local_cluster()
            self._to_close.append(cluster)
            address = cluster.scheduler_address
        client = connected(address, PATIENCE_S, "extract", "--nthreads 2` for every device")
        self._to_close.append(client)
        return client

    def _local_cluster(self) -> distributed.LocalCluster:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // self._how.workers)))
        return distributed.LocalCluster(
            n_workers=self._how.workers,
            threads_per_worker=2,
            processes=True,
            dashboard_address="localhost:0",  # None means port 8787, and a warning where another cluster has it
            scheduler_kwargs={"dashboard": False},
            local_directory=os.path.join(self.extraction.folder, ".strata", "dask"),
            silence_logs=logging.CRITICAL,
            env={"OMP_NUM_THREADS": threads},  # Dask would give every worker one
        )

    def _workers(self) -> list[str]:
        """Addresses of the workers that may compute this view.

        Raises:
            StageError: there is none, and none appears.
        """
        own = self._how.scheduler is None
        for second in range(START_S if own else PATIENCE_S):
            known = self._client.scheduler_info(n_workers=-1)["workers"]
            fit = [address for address, worker in known.items() if self._is_fit(worker)]
            if fit:
                return fit
            if second == 1:
                say(f"waiting for a worker at {self._how.scheduler or 'this machine'}")
            time.sleep(1)
        if own:
            raise StageError(f"none of {self._how.workers} workers has started in {START_S} s; lower extract.workers")
        kind = f" --resources {RESOURCE}=1" if self._own_process else ""
        address = self._how.scheduler
        raise StageError(f"no worker for this view at {address}: start `dask worker {address} --nthreads 2{kind}`")

    def _pinned(self) -> list[str]:
        """Workers to choose from, by address; none where all will do: those started here are this view's own."""
        return [] if self._how.scheduler is None else self._workers()

    def _is_fit(self, worker: dict) -> bool:
        """Workers started here are this view's own."""
        return self._how.scheduler is None or bool(worker["resources"].get(RESOURCE)) == self._own_process

    def _outcome(
        self, future: distributed.Future, submitted: _Submitted
    ) -> tuple[Sequence[Recording], BlockResult | Exception]:
        if not future.done():
            future.cancel()
            return submitted.recordings, BlockResult(submitted.block)
        error = future.exception()
        if isinstance(error, distributed.KilledWorker):
            return submitted.recordings, Crashed.on(submitted.recordings)
        if error is not None:
            return submitted.recordings, error
        try:
            result = future.result(timeout=PATIENCE_S)
        except distributed.TimeoutError:  # lost with its worker, before it was fetched
            future.cancel()
            return submitted.recordings, BlockResult(submitted.block)
        if result.claim is not None:
            submitted.progress(sum(recording.duration_s for recording in submitted.recordings))
        return submitted.recordings, result


def _ask(extraction: Extraction, question: Callable[[Extraction], Result]) -> Result:
    _take_own_device(extraction)
    return question(extraction)


def _compute(extraction: Extraction, block: int, recordings: Sequence[Recording]) -> BlockResult:
    _take_own_device(extraction)
    return work.compute(extraction, block, recordings)


def _take_own_device(extraction: Extraction) -> None:
    """Of several GPUs, each worker that was started here sees one: before PyTorch or TensorFlow look for them."""
    name = distributed.get_worker().name
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = named.split(",") if named else [str(i) for i in range(len(glob("/proc/driver/nvidia/gpus/*")))]
    if extraction.device == "auto" and isinstance(name, int) and len(devices) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[name % len(devices)]
