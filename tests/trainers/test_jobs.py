"""Processes side by side: what becomes of them when they are given up."""

import threading
import time

from joblib import delayed
from joblib.externals.loky import ProcessPoolExecutor

from strata.trainers.training.jobs import side_by_side


def test_a_pool_that_is_given_up_says_nothing(monkeypatch):
    """With work still waiting, loky's managing thread ends in a KeyError; what ends otherwise is told as ever."""
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda ended: told.append(ended.exc_type))
    assert list(side_by_side([delayed(abs)(-1), delayed(abs)(-2)], 2)) == [1, 2]
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
