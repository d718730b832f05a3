"""Hidden states on disk: one Zarr v3 group per view.

The store knows arrays, keys and fingerprints. It knows no model, no audio, no label and no task.
"""

from strata.store.errors import CorruptStore, FingerprintMismatch, NoRoom, StoreError, StoreLocked, differences
from strata.store.feature_store import FeatureStore
from strata.store.journal import Journal

__all__ = [
    "CorruptStore",
    "FeatureStore",
    "FingerprintMismatch",
    "Journal",
    "NoRoom",
    "StoreError",
    "StoreLocked",
    "differences",
]
