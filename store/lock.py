"""One writer per store, held by the operating system, so that a dead process never stands in the way."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from store.errors import StoreLocked


@contextmanager
def exclusive(store: Path) -> Iterator[None]:
    """Holds `<store>.lock` beside the store for the length of the block.

    The lock is the `flock` on the file, not the file: it ends with its process, and the file may stay behind.

    Raises:
        StoreLocked: another process holds it; the message says which.
    """
    path = store.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreLocked(
                f"{store} is being written by {_holder(file)}; wait for it or stop it, then try again"
            ) from None
        file.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now(UTC):%F %T} UTC"}, file)
        file.flush()
        yield


def _holder(file) -> str:
    file.seek(0)
    try:
        return "process {pid} on {host} since {since}".format(**json.load(file))
    except (ValueError, KeyError):
        return "another process"  # it has the lock but has not yet written who it is
