"""A store of several blocks, and its export."""

import pytest

from strata.store import hdf5
from tests.store.hdf5.stores import create, fill


@pytest.fixture
def store(tmp_path):
    return fill(fill(create(tmp_path / "view.zarr"), 29, seed=1), 13, seed=2)


@pytest.fixture
def file(store, tmp_path):
    hdf5.write(store, tmp_path / "view.h5")
    return tmp_path / "view.h5"
