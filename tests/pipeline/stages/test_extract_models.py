"""No store holds the values of two models: whatever differs is refused by its name."""

import json
import re
import shutil

import numpy as np
import pytest
import yaml

from strata import extractors
from strata.pipeline.errors import StageError
from strata.pipeline.study import dvcfile
from strata.store import FeatureStore
from tests.pipeline.stages.stores import assert_same, opened

FIELDS = ["family", "source", "revision", "config", "weights", "preprocessing", "masking", "compute_dtype", "layers"]


@pytest.mark.parametrize("field", [*FIELDS, "frames", "pooling"])
def test_a_store_that_differs_in_any_one_field_is_refused_by_its_name(study, field):
    """Every field of a fingerprint counts; nothing is written."""
    study.succeeds("corpus")
    view = extractors.load(study.params["views"]["wavlm"], folder=study.folder)
    assert set(view.fingerprint) == {*FIELDS, "frames", "pooling"}
    store = FeatureStore.create(
        study.folder / "features/wavlm.zarr",
        fingerprint=view.fingerprint | {field: "another"},
        layer_names=view.layer_names,
        dim=view.dim,
    )
    store.append(["0" * 32], np.ones((1, len(view.layer_names), view.dim), np.float32), [7])
    line = study.fails("extract", "wavlm")
    assert f"({field}: stored 'another', wanted" in line
    assert "new name" in line
    assert "strata store drop" in line
    assert opened(study, "wavlm").keys == ["0" * 32]


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensor(path):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + np.float32(1e-3)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda view, model: view.update(layers=[0, 1]), "layers"),
        (lambda view, model: view.update(frames=[1]), "frames"),
        (lambda view, model: edit_tensor(model / "model.safetensors"), "weights"),
        (lambda view, model: edit_json(model / "preprocessor_config.json", do_normalize=None), "config"),
        (lambda view, model: edit_json(model / "config.json", layer_norm_eps=1e-3), "config"),
        (lambda view, model: view.update(source="miniature:hubert"), "source"),
    ],
    ids=["layers", "frames", "weights", "preprocessing", "config", "source"],
)
def test_a_changed_view_or_checkpoint_is_refused_by_the_name_of_the_field(study, tmp_path, monkeypatch, change, field):
    """Really changed, one at a time, on a local checkpoint: the store is not touched."""
    monkeypatch.chdir(tmp_path)
    study.succeeds("corpus")
    made = extractors.load(study.params["views"]["wavlm"], folder=study.folder)
    model = shutil.copytree(made.checkpoint, tmp_path / "model")
    view = study.params["views"]["wavlm"]
    view["source"] = str(model)
    study.write_params()
    study.succeeds("extract", "wavlm")
    before = opened(study, "wavlm").pooled()
    change(view, model)
    study.write_params()
    assert f"{field}: stored" in study.fails("extract", "wavlm")
    np.testing.assert_array_equal(opened(study, "wavlm").pooled(), before)


def test_a_box_without_the_model_has_nothing_to_do_on_a_whole_store(study, tmp_path, monkeypatch):
    """Such as one that trains on pulled stores, after code has changed that the stage depends on; not where dvc.lock
    does not vouch for the store, or a row is missing."""
    study.succeeds("corpus")
    made = extractors.load(study.params["views"]["wavlm"], folder=study.folder)
    model = shutil.copytree(made.checkpoint, tmp_path / "model")
    study.params["views"]["wavlm"]["source"] = str(model)
    study.write_params().succeeds("extract", "wavlm")
    store = study.folder / "features/wavlm.zarr"
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}
    model.rename(tmp_path / "on another box")
    shutil.rmtree(study.folder / ".strata")
    absent = "view wavlm: source .* expected an existing local directory"
    assert re.search(absent, study.fails("extract", "wavlm"))
    stage = {
        "params": {"params.yaml": {"views.wavlm": study.params["views"]["wavlm"]}},
        "outs": [{"path": "features/wavlm.zarr", "md5": dvcfile.md5(store), "nfiles": len(before)}],
    }
    other = stage | {"outs": [stage["outs"][0] | {"md5": f"{0:032}.dir"}]}  # one of another revision, as many files
    (study.folder / "dvc.lock").write_text(yaml.safe_dump({"stages": {"extract@wavlm": other}}))
    assert re.search(absent, study.fails("extract", "wavlm"))
    (study.folder / "dvc.lock").write_text(yaml.safe_dump({"stages": {"extract@wavlm": stage}}))
    said = study.succeeds("extract", "wavlm")
    assert "wavlm: its model is not on this machine; the store is the one that dvc.lock lists, whole, and stays" in said
    assert "wavlm: up to date (24 of 24 utterances)" in said
    assert {file: file.read_bytes() for file in store.rglob("*") if file.is_file() and file in before} == before
    study.add(1).succeeds("corpus")
    assert re.search(absent, study.fails("extract", "wavlm"))


def test_how_an_extraction_runs_changes_no_value(framed):
    """Another batch size, and rows that are added by a run with one: accepted, and equal to within 1e-4."""
    framed.succeeds("extract", "wavlm")
    expected = framed.folder / "expected.zarr"
    (framed.folder / "features/wavlm.zarr").rename(expected)
    framed.params["extract"] = {"batch_s": 0.7, "device": "cpu"}
    framed.write_params()
    framed.succeeds("extract", "wavlm")
    assert_same(opened(framed, "wavlm"), FeatureStore.open(expected), rtol=1e-4)
    framed.params["extract"] = {"batch_s": 30.0}
    framed.write_params()
    assert "up to date" in framed.succeeds("extract", "wavlm")


def test_a_worker_with_another_model_is_refused(study, tmp_path):
    """A machine whose checkpoint is not the one that the store was made with writes nothing."""
    from strata.pipeline.extraction.work import Extraction, compute
    from strata.pipeline.study.folder import Study

    study.succeeds("corpus")
    study.succeeds("extract", "wavlm")
    section = json.dumps({"family": "transformers", "source": "miniature:hubert"})
    extraction = Extraction.of(Study(study.folder / "params.yaml"), "wavlm")
    store = opened(study, "wavlm")
    with store.locked(), pytest.raises(StageError, match=r"another model .*config, masking|give every worker"):
        compute(Extraction(extraction.folder, extraction.store, section, "cpu", None, None), store.reserve(), [])
