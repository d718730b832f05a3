"""Models trained by the workers of a running Dask scheduler (`train.scheduler: tcp://…`); no stage of its own."""

import time
from collections.abc import Callable
from concurrent.futures import Executor, wait
from contextlib import suppress
from functools import cached_property

import distributed

from strata.pipeline.errors import StageError
from strata.pipeline.scheduler import connected
from strata.trainers.inputs.data import TrainingError
from strata.trainers.training.workers import LOOK_S, Found, Item, Workers, tried

PATIENCE_S = 30.0
"""How long to wait for a scheduler to answer and for a worker to appear there."""
COUNT_S = 1.0
"""How long a count of the workers holds."""


class Cluster(Workers):
    """The workers of a running scheduler, which see the study under the same path.

    Dask notices lost workers and gives their models to others. A model that was with several when they were lost it
    gives up, even one that only waited there: whose fault it was shows when each is trained with no other out.
    """

    losses = (*Workers.losses, distributed.KilledWorker)

    def __init__(self, address: str):
        super().__init__()
        self.address = address
        self._counted: tuple[float, int] = (-COUNT_S, 0)
        self._seen_s = 0.0

    @cached_property
    def _client(self) -> distributed.Client:
        client = connected(self.address, PATIENCE_S, "train", "--nthreads 1` for every core that is to train")
        try:
            client.wait_for_workers(1, timeout=PATIENCE_S)
        except TimeoutError:
            client.close()
            raise self._lonely() from None
        return client

    @cached_property
    def _executor(self) -> Executor:
        return self._client.get_executor(pure=False)

    @property
    def num_calls(self) -> int:
        """See `Workers.num_calls`."""
        return 2 * max(1, self._count())

    def executor(self) -> Executor:
        """See `Workers.executor`."""
        return self._executor

    def again(self, function: Callable[[Item], Found], item: Item) -> Found | Exception:
        """See `Workers.again`."""
        try:
            call = self._executor.submit(tried, function, item)
            while not wait([call], timeout=LOOK_S).done:
                self.look()
            return call.result()
        except (StageError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a call that was cancelled raises no Exception
            return self.told(error)

    def told(self, error: BaseException) -> Exception:
        """See `Workers.told`."""
        if isinstance(error, distributed.KilledWorker):
            return TrainingError(
                "every worker that trained it was lost, also with no other model out, most likely for want of memory: "
                "take fewer layers or utterances, or start fewer workers on a machine"
            )
        raise StageError(
            f"the Dask scheduler at {self.address} is gone, or its workers cannot train ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); what finished models answered is kept: start it, and on every "
            "machine workers with this version of Strata, and the same command goes on from there"
        ) from error

    def look(self) -> None:
        """Raises StageError where no worker has been there for long."""
        now = time.monotonic()
        if self._count() or not self._seen_s:
            self._seen_s = now
        elif now - self._seen_s > PATIENCE_S:
            raise self._lonely()

    def give_up(self) -> None:
        """Takes back what is out."""
        with suppress(Exception):  # a scheduler that is gone
            self._executor.shutdown(wait=False)

    def close(self) -> None:
        """Takes leave of the scheduler, which stays."""
        if "_client" in vars(self):
            with suppress(Exception):
                self._client.close()

    def _count(self) -> int:
        since, count = self._counted
        if time.monotonic() - since >= COUNT_S:
            try:
                count = len(self._client.scheduler_info(n_workers=-1)["workers"])
            except (OSError, ValueError, RuntimeError) as error:
                self.told(error)
            self._counted = time.monotonic(), count
        return count

    def _lonely(self) -> StageError:
        return StageError(
            f"no worker at {self.address}: start `dask worker {self.address} --nthreads 1` for every core that is to "
            "train; what finished models answered is kept"
        )
