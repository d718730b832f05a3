"""That study, extracted once."""

import os

import pytest

from strata.pipeline.commands.layers import saving
from strata.store import FeatureStore
from tests.pipeline.commands.layers.eliminated import PARAMS, Eliminated


@pytest.fixture(scope="session")
def made(new_study, silence, tmp_path_factory):
    """To be copied, once for all files of this folder; and the rows of its store."""
    root = tmp_path_factory.mktemp("layers")
    os.environ["STRATA_CACHE"], before = str(root / "miniatures"), os.environ.get("STRATA_CACHE")
    try:
        study = new_study(root / "study", silence).add(24)
        (study.folder / "params.yaml").write_text(PARAMS)
        study.succeeds("corpus")
        study.succeeds("extract", "wavlm")
    finally:
        os.environ.pop("STRATA_CACHE") if before is None else os.environ.update(STRATA_CACHE=before)
    store = FeatureStore.open(study.folder / "features/wavlm.zarr")
    return study, {"keys": store.keys, "pooled": store.pooled(), "frames": store.frames(store.keys, "5")}


@pytest.fixture
def wide(made):
    """Keys, pooled values and frames of the wide store."""
    return made[1]


@pytest.fixture
def eliminated(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "miniatures"))
    monkeypatch.setattr(saving, "LEAST_S", 0.0)
    return Eliminated(made[0].copied(tmp_path, capsys)).found()
