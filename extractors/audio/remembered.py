"""What is found out of a file once, however many utterances are parts of it, for as long as the file stays as it is.

Knows no format. A file is known by its path, place, size and times; one that was written just now is looked at every
time, since file systems count time in steps in which it could be written again.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Generic, TypeVar

Found = TypeVar("Found")

FRESH_S = 2.0
"""The age from which on a file is remembered: the coarsest step of time that a file system has."""
_MOST = 1 << 16
"""Files that are remembered at a time, the latest ones."""


class PerFile(Generic[Found]):
    """A function of a file that is computed once for each; who asks while another computes it waits for that."""

    def __init__(self, find: Callable[[Path], Found]):
        self._find = find
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple, Future[Found]] = OrderedDict()

    def __call__(self, path: Path) -> Found:
        """What the function says of a file.

        Raises:
            OSError: there is no such file.
        """
        status = os.stat(path)
        if time.time() - max(status.st_mtime, status.st_ctime) < FRESH_S:
            return self._find(path)
        times = (status.st_mtime_ns, status.st_ctime_ns)
        key = (os.path.abspath(path), status.st_dev, status.st_ino, status.st_size, *times)
        with self._lock:
            is_new = key not in self._found
            future = self._found.setdefault(key, Future())
            self._found.move_to_end(key)
            if len(self._found) > _MOST:
                self._found.popitem(last=False)
        if is_new:
            try:
                future.set_result(self._find(path))
            except BaseException as error:
                with self._lock:
                    self._found.pop(key, None)  # a disk may have been away
                future.set_exception(error)
        return future.result()
