"""From a path to a store: where it lies, whether there is one, and what it says of itself."""

from pathlib import Path, PurePosixPath

from strata.store import layout
from strata.store.errors import CorruptStore, StoreError
from strata.store.local import LocalStorage
from strata.store.storage import Storage


def storage_of(path: str | Path | Storage) -> Storage:
    """The storage at a path or URL."""
    if isinstance(path, Storage):
        return path
    if "://" in str(path):
        from strata.store.objects import ObjectStorage

        return ObjectStorage(str(path))
    return LocalStorage(Path(path))


def view_name(storage: Storage) -> str:
    """`wavlm` of `features/wavlm.zarr`."""
    return PurePosixPath(storage.place).stem


def committed(storage: Storage) -> list[int]:
    """Numbers of the blocks that have keys, ascending."""
    names = ((layout.block_of(name), name) for name in storage.names("key/c"))
    return sorted(block for block, name in names if block is not None and name == layout.key_file(block))


def is_store(storage: Storage) -> bool:
    """Whether there is a store, be it damaged; a group's document is written when all else of an empty store is there.

    A creation that was killed has left none.
    """
    return there(storage, "zarr.json") or bool(committed(storage))


def find_header(storage: Storage) -> layout.Header | None:
    """What the store says of itself, from the copy if need be; None where there is no store.

    Raises:
        CorruptStore: there is one, but neither header can be trusted.
        StoreError: it is of a format that this code cannot read.
    """
    if not is_store(storage):
        return None
    documents = [read_or_nothing(storage, name) for name in ("zarr.json", "key/zarr.json")]
    headers = [layout.read_header(document) for document in documents]
    later = [layout.later_format(document) for document in documents]
    header = headers[0] or headers[1]
    if header is None and any(later):
        known = " or ".join(map(str, layout.READABLE))
        raise StoreError(
            f"{storage.place}: expected a store of format {known}, found format {later[0] or later[1]}: "
            "it needs a newer version of strata-speech"
        )
    if header is None:
        raise CorruptStore(
            f"{storage.place}: no header that can be trusted, neither in zarr.json nor its copy in key/zarr.json; "
            "this is no Strata store, or both are damaged: bring it back with `dvc checkout --force`, or "
            f"`strata store drop {storage.place}`"
        )
    return header


def there(storage: Storage, name: str) -> bool:
    """Whether a storage has a file."""
    try:
        storage.size(name)
    except FileNotFoundError:
        return False
    return True


def read_or_nothing(storage: Storage, name: str) -> bytes:
    """A file's bytes; none where it is not there."""
    try:
        return storage.read_all(name)
    except FileNotFoundError:
        return b""
