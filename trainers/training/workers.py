"""Where models are trained: in this process, in others of this machine, or wherever an executor hands calls to.

`finished` applies a function to items, in as many places as there are. Starting processes costs seconds, most of them
imports, and small work is over by then: so work begins in this process, others are started when it has taken as long as
they take to start, and this one goes on until they are up. Knows nothing of models; what a call gives must not depend
on where it is made.
"""

import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager
from typing import TypeVar

from strata.trainers.inputs.data import TrainingError

Item = TypeVar("Item")
Found = TypeVar("Found")

START_S = 8.0
"""Processor time that two processes take to start, most of it imports: so much is done here before others begin."""
LOOK_S = 1.0
"""How often to look after calls of which none comes back."""


class Workers(AbstractContextManager, ABC):
    """Processes beside this one, for several calls of `finished`; a context that leaves none of them at work."""

    losses: tuple[type[Exception], ...] = (BrokenExecutor,)
    """What a call raises that was lost with its worker, be it by its own fault or by another's."""

    def __init__(self, worth_s: float = 0.0):
        """Starts nothing.

        Args:
            worth_s: processor time of this process, over all calls of `finished`, after which others are started: on a
                busy machine everything takes longer, starting too.
        """
        self.worth_s = worth_s
        self.spent_s = 0.0
        self._first: Future | None = None

    @property
    @abstractmethod
    def num_calls(self) -> int:
        """How many calls may be out at a time: enough for nobody to wait for one."""

    @abstractmethod
    def executor(self) -> Executor:
        """Who makes the calls; another one after the last was given up or broke."""

    def again(self, function: Callable[[Item], Found], item: Item) -> Found | Exception:
        """Makes a call that was lost, with no other out, and may be what broke the executor."""
        raise BrokenExecutor

    def told(self, error: BaseException) -> Exception:
        """What stands in the place of an outcome for an error of the executor.

        Raises:
            Exception: nothing will come of the other calls either.
        """
        return error

    def look(self) -> None:
        """Is called every `LOOK_S` while nothing comes back; raises where nothing can."""

    def give_up(self) -> None:
        """Ends what is out."""

    def close(self) -> None:
        """Leaves the executor."""

    def up(self, function: Callable) -> bool:
        """Whether calls of a function go to the executor, which is started where it has begun to pay."""
        if self._first is None and self.spent_s >= self.worth_s:
            self._first = self.executor().submit(_imported, function)
        return self._first is not None and (self._first.done() or not self.worth_s)

    def __exit__(self, *error) -> None:
        if self._first is not None and not self._first.done():
            self.give_up()
        self.close()


class Here(Workers):
    """This process, and no other."""

    num_calls = 0

    def up(self, function: Callable) -> bool:
        """Never."""
        return False

    def executor(self) -> Executor:
        """There is none."""
        raise NotImplementedError


class Processes(Workers):
    """So many processes of this machine. A script needs no guard around its main part, a notebook is as good as any."""

    def __init__(self, count: int, worth_s: float = START_S):
        super().__init__(worth_s)
        self.count = count
        self.tell: Callable[[str], None] = warnings.warn
        """Called with a line, once, where no process can be started."""
        self._cannot_start = False

    def up(self, function: Callable) -> bool:
        """See `Workers.up`; never where none can be started: work goes on in this process."""
        if self._cannot_start:
            return False
        try:
            return super().up(function)
        except (OSError, ImportError, NotImplementedError) as error:  # the latter two of systems without semaphores
            self._cannot_start = True
            self.tell(
                f"no worker process can be started ({type(error).__name__}: {error}): models are trained one at a time "
                "in this process; make room in /dev/shm, or set train.workers to 1"
            )
            return False

    @property
    def num_calls(self) -> int:
        """See `Workers.num_calls`."""
        return 2 * self.count

    def executor(self) -> Executor:
        """Processes that stay for another run in this process, and end when they have had nothing to do for long."""
        from joblib.externals.loky import get_reusable_executor  # not before there is something for it to do

        _keep_last_words_of_pools()
        return get_reusable_executor(max_workers=self.count, timeout=300)

    def again(self, function: Callable[[Item], Found], item: Item) -> Found | Exception:
        """In a process of its own, in which nothing else runs."""
        from joblib.externals.loky import ProcessPoolExecutor

        try:
            with ProcessPoolExecutor(1) as alone:
                return alone.submit(tried, function, item).result()
        except BrokenExecutor:
            return TrainingError(
                "a worker process was ended from outside, also with no other beside it, most likely for want of "
                "memory: take fewer layers or utterances, or lower train.workers in params.yaml"
            )
        except Exception as error:
            return error

    def give_up(self) -> None:
        """Kills the processes: what they are at is in nobody's use."""
        self.executor().shutdown(wait=True, kill_workers=True)


def workers_of(workers: int | Workers, most: int | None = None) -> Workers:
    """Workers; or so many processes, no more than there ever are calls."""
    if isinstance(workers, Workers):
        return workers
    count = workers if most is None else min(workers, most)
    return Here() if count <= 1 else Processes(count)


def finished(
    function: Callable[[Item], Found], items: Iterable[Item], workers: Workers
) -> Iterator[tuple[int, Found | Exception]]:
    """What a function returns for each item, or the exception that it raises, as soon as it is there.

    Processes that are ended from outside say nothing of whose call it was: those that were out are then made one at a
    time, each in a process of its own, and the rest side by side again.

    Args:
        function: a module's, or a partial of one, which takes an item and, as `watch`, what it calls now and then with
            whatever arguments: between two epochs.
        items: may be made as they are asked for.
        workers: who does it.

    Yields:
        Numbers of items, from 0, with what came of them.

    Raises:
        Exception: that of `items` itself, after what comes of those before it.
    """
    calls = _Calls(function, items, workers)
    try:
        while not calls.exhausted and not workers.up(function):
            yield from calls.make_one_here()
        calls.hand_out()
        while calls.out:
            yield from calls.come_back()
            calls.hand_out()
    finally:
        if calls.out:
            workers.give_up()
    if calls.error:
        raise calls.error


def in_order(function: Callable[[Item], Found], items: Iterable[Item], workers: Workers) -> list[Found | Exception]:
    """What `finished` finds, in the order of the items."""
    return [found for _, found in sorted(finished(function, items, workers), key=lambda pair: pair[0])]


class _Calls:
    """Calls on their way: those that are still to come, and those that are out."""

    def __init__(self, function: Callable, items: Iterable, workers: Workers):
        self.function, self.workers = function, workers
        self.out: dict[Future, tuple[int, object]] = {}
        self.exhausted = False
        self.error: Exception | None = None
        """What kept the next item from being made."""
        self._items = enumerate(items)

    def _next(self) -> list[tuple[int, object]]:
        """The next item with its number; none where there is none."""
        try:
            return [next(self._items)]
        except StopIteration:
            self.exhausted = True
        except Exception as error:  # no call's, and nothing comes after it
            self.exhausted, self.error = True, error
        return []

    def make_one_here(self) -> Iterator[tuple[int, object]]:
        """Makes the next call in this process, and hands the ones behind it out meanwhile where there is somebody."""
        for number, item in self._next():
            since = time.process_time()

            def watch(*_) -> None:
                nonlocal since
                now = time.process_time()
                self.workers.spent_s += now - since
                if self.workers.up(self.function):
                    self.hand_out()
                since = time.process_time()

            found = tried(self.function, item, watch=watch)
            watch()
            yield number, found

    def hand_out(self) -> None:
        """As many as may be out; no more after one that could not be sent, which comes back as lost."""
        while not self.exhausted and sum(not call.done() for call in self.out) < self.workers.num_calls:
            for number, item in self._next():
                try:
                    call = self.workers.executor().submit(tried, self.function, item)
                except Exception as error:  # broken by now, or nothing can be started any more
                    call = Future()
                    call.set_exception(error)
                    self.out[call] = number, item
                    return
                self.out[call] = number, item

    def come_back(self) -> Iterator[tuple[int, object]]:
        """Waits for one at least; all that are back, or all that are out where one was lost with its worker."""
        done = wait(self.out, timeout=LOOK_S, return_when=FIRST_COMPLETED).done
        if not done:
            self.workers.look()
        if any(self._is_lost(call) for call in done):
            while len(done := wait(self.out, timeout=LOOK_S).done) < len(self.out):
                self.workers.look()
        for call in sorted(done, key=self.out.get):
            number, item = self.out[call]
            found = self.workers.again(self.function, item) if self._is_lost(call) else self._found(call)
            del self.out[call]
            yield number, found

    def _is_lost(self, call: Future) -> bool:
        return not call.cancelled() and isinstance(call.exception(), self.workers.losses)

    def _found(self, call: Future) -> object:
        try:
            return call.result()
        except BaseException as error:  # a call that was cancelled raises no Exception
            return self.workers.told(error)


def tried(function: Callable, item: object, **options) -> object:
    """What a call returns or raises."""
    try:
        return function(item, **options)
    except Exception as error:
        return error


def _imported(function: Callable) -> None:
    """The first call of a process: when it is answered, the process has imported what the others need."""


def _keep_last_words_of_pools() -> None:
    """Keeps from the terminal how the thread ends that managed processes which were given up.

    When processes are killed with work still waiting, loky drops that work, looks it up all the same by the numbers
    that are still queued (`process_executor.add_call_item_to_queue`), and its thread ends in a KeyError. By then the
    work has its exception, and nothing waits for the thread.
    """
    former = threading.excepthook
    if getattr(former, "of_pools", False):
        return

    def hook(ended: threading.ExceptHookArgs) -> None:
        managed = ended.thread is not None and ended.thread.name == "ExecutorManagerThread"
        if not (managed and issubclass(ended.exc_type, KeyError)):
            former(ended)

    hook.of_pools = True
    threading.excepthook = hook
