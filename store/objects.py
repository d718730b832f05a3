"""A store in a bucket: Amazon S3, Google Cloud Storage, Azure, or whatever else obstore has a URL for.

A put is whole and durable by itself, so nothing is renamed and nothing flushed. The one thing that a bucket lacks is a
lock that ends with its process: see `exclusive`. Credentials come from the environment, as obstore documents.
"""

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec

from strata.store.errors import StoreError, StoreLocked
from strata.store.lock import described, holder
from strata.store.storage import Storage


class ObjectStorage(Storage):
    """Objects below a URL such as `s3://bucket/features/wavlm.zarr`."""

    def __init__(self, url: str):
        if find_spec("obstore") is None:
            raise StoreError(f"{url}: stores in buckets need obstore: pip install 'strata-speech[objects]'")
        from obstore.store import from_url

        self.place = url.rstrip("/")
        above, _, self._folder = self.place.rpartition("/")
        self._bucket = from_url(above)

    def __reduce__(self):
        return ObjectStorage, (self.place,)

    def bucket(self):
        """The same place as obstore has it, every name counted from the store's own folder."""
        from obstore.store import from_url

        return from_url(self.place)

    def names(self, below: str = "") -> list[str]:
        """See `Storage.names`."""
        import obstore

        prefix = self._name(below).rstrip("/")
        with _plain_errors():
            found = [item["path"] for part in obstore.list(self._bucket, prefix=prefix) for item in part]
        return sorted(name.removeprefix(f"{self._folder}/") for name in found)

    def read(self, name: str, spans: Sequence[tuple[int, int]]) -> Iterator[memoryview]:
        """See `Storage.read`. Spans that lie close together are fetched at once."""
        import obstore

        path, size = self._name(name), self.size(name)
        starts = [start if start >= 0 else max(0, size + start) for start, _ in spans]
        ends = [min(start + length, size) for start, (_, length) in zip(starts, spans, strict=True)]
        there = [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]
        with _plain_errors():
            found = iter(
                obstore.get_ranges(self._bucket, path, starts=[s for s, _ in there], ends=[e for _, e in there])
                if there
                else ()
            )
        for start, end in zip(starts, ends, strict=True):
            yield memoryview(next(found).to_bytes() if start < end else b"")

    def read_all(self, name: str) -> bytes:
        """See `Storage.read_all`."""
        import obstore

        with _plain_errors():
            return obstore.get(self._bucket, self._name(name)).bytes().to_bytes()

    def size(self, name: str) -> int:
        """See `Storage.size`."""
        return self._status(name)["size"]

    def signature(self, name: str) -> str:
        """See `Storage.signature`."""
        status = self._status(name)
        return f"{status['size']},{status['last_modified'].isoformat()},{status['e_tag']}"

    def write(self, name: str, data: Sequence[bytes]) -> None:
        """See `Storage.write`."""
        import obstore

        with _plain_errors():
            obstore.put(self._bucket, self._name(name), b"".join(data))

    def create(self, name: str, data: bytes) -> bool:
        """See `Storage.create`."""
        return self._put_new(self._name(name), data)

    def remove(self, name: str) -> None:
        """See `Storage.remove`."""
        self._delete(self._name(name))

    def discard(self) -> None:
        """See `Storage.discard`."""
        for name in self.names():
            self.remove(name)

    def flush(self) -> None:
        """See `Storage.flush`: a put has arrived when it returns."""

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """See `Storage.exclusive`. The lock of a process that died on this machine is taken over.

        Whether one on another machine still lives cannot be known: the message names it and the object to remove.
        """
        path = f"{self._folder.removesuffix('.zarr')}.lock"
        mine = holder()
        if not self._put_new(path, mine) and not self._take_over(path, mine):
            raise StoreLocked(
                f"{self.place} is being written by {described(self._content(path))}; wait for it or stop it, then try "
                f"again (if it is dead, remove {self.place.removesuffix('.zarr')}.lock)"
            )
        try:
            yield
        finally:
            if self._content(path) == mine:
                self._delete(path)

    def _take_over(self, path: str, mine: bytes) -> bool:
        """Replaces the lock of a process of this machine that is gone; of several who try, one succeeds."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            found = obstore.get(self._bucket, path)
            lock = json.loads(found.bytes().to_bytes())
            if lock["host"] != socket.gethostname():
                return False
            os.kill(lock["pid"], 0)
        except ProcessLookupError:
            # Only over the very object that was read. Somebody else may have been quicker, or this kind of bucket may
            # know no conditional put: then the lock counts as held, and the message says which object to remove.
            with suppress(BaseError, NotImplementedError, FileNotFoundError):
                version = {name: found.meta[name] for name in ("e_tag", "version") if found.meta[name] is not None}
                obstore.put(self._bucket, path, mine, mode=version)
                return True
        except (FileNotFoundError, PermissionError, ValueError, KeyError, TypeError, AttributeError, BaseError):
            return False
        return False

    def _name(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _content(self, path: str) -> bytes:
        import obstore

        try:
            with _plain_errors():
                return obstore.get(self._bucket, path).bytes().to_bytes()
        except FileNotFoundError:  # its holder has just let go
            return b""

    def _put_new(self, path: str, data: bytes) -> bool:
        import obstore

        try:
            with _plain_errors():
                obstore.put(self._bucket, path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def _delete(self, path: str) -> None:
        import obstore

        with _plain_errors(), suppress(FileNotFoundError):
            obstore.delete(self._bucket, path)

    def _status(self, name: str):
        import obstore

        with _plain_errors():
            return obstore.head(self._bucket, self._name(name))


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turns obstore's own errors into Python's, in one line."""
    from obstore import exceptions

    try:
        yield
    except exceptions.AlreadyExistsError as error:
        raise FileExistsError(str(error).splitlines()[0]) from error
    except exceptions.BaseError as error:
        raise OSError(str(error).splitlines()[0]) from error
