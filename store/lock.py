"""One writer per store, held by the operating system, so that a dead process never stands in the way."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from strata.store.errors import StoreLocked, naming_full_disks


@contextmanager
def exclusive(store: Path) -> Iterator[None]:
    """Holds `<store>.lock` beside the store for the length of the block.

    The lock is the `flock` on the file, not the file: it ends with its process, and the file may stay behind.

    Raises:
        StoreLocked: another process holds it; the message says which.
    """
    path = store.with_suffix(".lock")
    with naming_full_disks(store, path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    with open(descriptor, "ab+", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StoreLocked(
                f"{store} is being written by {described(file.read())}; wait for it or stop it, then try again"
            ) from None
        try:
            file.truncate(0)
            file.write(holder())
        except OSError:  # a full disk: the lock holds without a name on it
            pass
        yield


def holder() -> bytes:
    """What a lock says of this process."""
    content = {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now(UTC):%F %T} UTC"}
    return json.dumps(content).encode()


def described(content: bytes) -> str:
    """Who a lock's content says its holder is."""
    try:
        return "process {pid} on {host} since {since}".format(**json.loads(content))
    except (ValueError, KeyError, TypeError):
        return "another process"  # it has the lock but has not yet written who it is
