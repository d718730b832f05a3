"""Where models are trained: here while that is quicker, side by side, and what becomes of processes that are lost."""

import os
import signal
import threading
import time
from concurrent.futures import Executor, Future

import pytest
from joblib.externals.loky import ProcessPoolExecutor

from strata.trainers.inputs.data import TrainingError
from strata.trainers.training.workers import Here, Processes, Workers, finished, in_order


def _square(x: int, watch=lambda: None) -> int:
    watch()
    return x * x


def _process(x: int, watch=lambda: None) -> int:
    return os.getpid()


def _dies_of_two(x: int, watch=lambda: None) -> int:
    if x == 2:
        time.sleep(0.2)  # so that others are out with it
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def _refuses_two(x: int, watch=lambda: None) -> int:
    if x == 2:
        raise KeyError("two")
    return x


class _Counted(Workers, Executor):
    """Makes calls at once, in this process; the first one, by which processes tell that they are up, is to be told."""

    num_calls = 3

    def __init__(self, worth_s: float):
        super().__init__(worth_s)
        self.submitted = 0

    def executor(self) -> Executor:
        return self

    def submit(self, function, *arguments) -> Future:
        call = Future()
        self.submitted += 1
        if self.submitted == 1:
            self.first = call
        else:
            call.set_result(function(*arguments))
        return call


def test_small_work_is_done_here_and_starts_nobody():
    """Processes start when the work so far has taken as long as they take to start."""
    workers = _Counted(worth_s=60.0)
    assert in_order(_square, range(5), workers) == [0, 1, 4, 9, 16]
    assert workers.submitted == 0
    assert set(in_order(_process, range(3), Processes(2, worth_s=60.0))) == {os.getpid()}


def test_work_goes_on_here_until_others_are_up():
    """Also within a call: what it calls between its epochs hands out the calls behind it."""
    workers = _Counted(worth_s=0.02)
    here = []

    def slow(x: int, watch=None) -> int:
        if watch is None:
            return -x
        here.append(x)
        if x == 0:
            while not workers.submitted:
                time.sleep(0.005)
                watch()
        if x == 2:
            workers.first.set_result(None)
            watch()
            assert workers.submitted == 1 + 7  # all that are left, since each comes back at once
        return x

    assert in_order(slow, range(10), workers) == [0, 1, 2, *range(-3, -10, -1)]
    assert here == [0, 1, 2]


def test_calls_are_made_lazily_and_few_are_out():
    """Items may be large: no more of them are made than somebody will soon need."""
    made, back = [], []

    def items():
        for number in range(20):
            made.append(number)
            assert len(made) - len(back) <= 4 + 4  # those that are out, and those that came back at the same time
            yield number

    for number, found in finished(_square, items(), Processes(2, worth_s=0.0)):
        assert found == number**2
        back.append(number)
    assert sorted(back) == list(range(20))


@pytest.mark.parametrize("workers", [Here, lambda: Processes(2, worth_s=0.0)], ids=["here", "processes"])
def test_what_a_call_raises_stands_in_its_place(workers):
    """The others are made."""
    found = in_order(_refuses_two, range(5), workers())
    assert [type(each) for each in found] == [int, int, KeyError, int, int]


@pytest.mark.parametrize("workers", [Here, lambda: Processes(2, worth_s=0.0)], ids=["here", "processes"])
def test_items_that_cannot_be_made_do_not_pass_for_the_end_of_them(workers):
    """What comes of those before is given, then the error: nobody takes half of the models for all."""

    def items():
        yield 3
        raise KeyError("the second")

    given = finished(_square, items(), workers())
    assert next(given) == (0, 9)
    with pytest.raises(KeyError, match="the second"):
        next(given)


def test_a_process_that_is_ended_costs_the_call_that_ended_it():
    """Those that were out with it are made again, the rest after them."""
    found = in_order(_dies_of_two, range(12), Processes(2, worth_s=0.0))
    assert isinstance(found[2], TrainingError)
    assert [each for each in found if each is not found[2]] == [x for x in range(12) if x != 2]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ImportError("no sem_open")])
def test_where_no_process_can_be_started_work_goes_on_here(error, monkeypatch):
    """Without semaphores or room in /dev/shm: said once, and every call is made."""

    def fails(self):
        raise error

    monkeypatch.setattr(Processes, "executor", fails)
    workers = Processes(2, worth_s=0.0)
    with pytest.warns(UserWarning, match="no worker process can be started .*: models are trained one at a time"):
        assert in_order(_square, range(5), workers) == [0, 1, 4, 9, 16]
    with workers:  # a second warning would be an error
        assert set(in_order(_process, range(3), workers)) == {os.getpid()}


class _Refuses(_Counted):
    """Cannot send the third call, nor the fourth, the first one being its own."""

    num_calls = 2

    def submit(self, function, *arguments) -> Future:
        if self.submitted in (2, 3):
            self.submitted += 1
            raise OSError("no more processes")
        return super().submit(function, *arguments)


def test_a_call_that_cannot_be_sent_has_its_outcome():
    """No item is lost, and those behind it are made."""
    found = in_order(_square, range(6), _Refuses(worth_s=0.0))
    assert [each if isinstance(each, int) else type(each) for each in found] == [0, OSError, OSError, 9, 16, 25]


def test_a_pool_that_is_given_up_says_nothing(monkeypatch):
    """With work still waiting, loky's managing thread ends in a KeyError; what ends otherwise is told as ever."""
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda ended: told.append(ended.exc_type))
    assert in_order(_square, [1, 2], Processes(2, worth_s=0.0)) == [1, 4]
    pool = ProcessPoolExecutor(2)
    calls = [pool.submit(time.sleep, 0.01) for _ in range(300)]
    calls[2].result()
    pool.shutdown(kill_workers=True, wait=True)
    assert all(call.done() for call in calls)
    assert told == []
    other = threading.Thread(target=lambda: {}["x"])
    other.start()
    other.join()
    assert told == [KeyError]
