"""A store as zarr-python's own arrays: for whatever code takes those. The one file that imports Zarr.

Everything else here reads and writes the bytes by hand, at the speed of the disk (`store.shards`).
"""

import zarr

from strata.store.objects import ObjectStorage
from strata.store.storage import Storage


def group(storage: Storage) -> zarr.Group:
    """The store's group, read-only; see `FeatureStore.zarr`."""
    if isinstance(storage, ObjectStorage):
        source = zarr.storage.ObjectStore(storage.bucket(), read_only=True)
    else:
        source = zarr.storage.LocalStore(storage.place, read_only=True)
    return zarr.open_group(source, mode="r", zarr_format=3)
