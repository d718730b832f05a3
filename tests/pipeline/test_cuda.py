"""`strata extract` on a GPU. Runs only where PyTorch finds an NVIDIA GPU."""

import numpy as np
import pytest
import torch

from strata.store import FeatureStore

if not torch.cuda.is_available():
    pytest.skip("needs an NVIDIA GPU", allow_module_level=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_computed_on_a_gpu_is_a_cpus(study, workers):
    """The same rows with the same values under the same fingerprint, by one process and by two; and the run goes on
    where there is no GPU any more."""
    study.params["extract"] = {"device": "cpu"}
    study.write_params().succeeds("corpus")
    study.succeeds("extract", "wavlm")
    path = study.folder / "features" / "wavlm.zarr"
    expected, keys = FeatureStore.open(path).pooled(), FeatureStore.open(path).keys
    study.succeeds("store", "drop", str(path))
    study.params["extract"] = {"device": "cuda" if workers == 1 else "auto", "workers": workers}
    study.write_params().succeeds("extract", "wavlm")
    store = FeatureStore.open(path)
    found = store.pooled(keys)
    largest = np.abs(expected).max(axis=2)
    assert (np.abs(found - expected).max(axis=2) / largest).max() < 1e-4
    study.add(3)
    study.params["extract"] = {"device": "cpu"}
    study.write_params().succeeds("corpus")
    assert "3 new of 27" in study.succeeds("extract", "wavlm")
