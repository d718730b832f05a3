"""`strata layers --write` changes nothing where model, store, parameters and elimination do not agree."""

import json
import re
import shutil

import pytest
import yaml

from strata import extractors
from strata.extractors import miniatures
from strata.pipeline.commands.layers import narrowing
from strata.pipeline.commands.layers.elimination import read, with_layers
from strata.pipeline.study.folder import Study
from strata.store import FeatureStore
from tests.pipeline.commands.layers.eliminated import LINE, PARAMS

MODELS = [
    *({"family": "transformers", "source": f"miniature:{name}", "frames": [1]} for name in miniatures.TRANSFORMERS),
    {"family": "text", "source": "miniature:bert", "frames": [1]},
]


@pytest.mark.parametrize("section", MODELS, ids=lambda section: section["source"])
def test_a_narrow_views_fingerprint_follows_from_the_wide_ones(eliminated, section, monkeypatch):
    """Of every family that can be cut: what is derived without the model is what the cut model itself says."""
    study = Study(eliminated.file)
    whole = extractors.load(section, folder=study.folder)
    eliminated.file.write_text(yaml.safe_dump(yaml.safe_load(PARAMS) | {"views": {"wavlm": section}}))
    outcome = read(
        eliminated.found([1, 2], depth=4, provenance={"views": {"wavlm": {"fingerprint": whole.fingerprint}}}).results
    )
    kept = with_layers(study.params.views["wavlm"], outcome.support)
    cut = extractors.load(kept, folder=study.folder).fingerprint
    assert cut["layers"] == ["1", "2"]

    def absent(*_, **__):
        raise extractors.CheckpointAbsent("it is not here")

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(extractors, "load", absent)
        assert narrowing.expected(study, outcome, kept) == cut
    assert narrowing.expected(study, outcome, kept) == cut


@pytest.fixture
def local(eliminated, tmp_path):
    """The same study with the checkpoint in a folder of its own, extracted and eliminated."""
    extractors.load({"family": "transformers", "source": "miniature:wavlm-large"}, folder=eliminated.folder)
    (made,) = (tmp_path / "miniatures").rglob("wavlm-large")
    shutil.copytree(made, eliminated.folder / "model")
    eliminated.edit("miniature:wavlm-large", "model")
    shutil.rmtree(eliminated.path)
    eliminated.study.succeeds("extract", "wavlm")
    return eliminated.found()


def test_without_the_model_the_store_is_narrowed_all_the_same(local):
    """Where the model is, the extraction finds what it expects."""
    shutil.move(local.folder / "model", local.folder / "elsewhere")
    said = local.write()
    assert said.count("is not on this machine") == 1
    assert "24 rows of 5 layers, copied and not computed again" in said
    shutil.move(local.folder / "elsewhere", local.folder / "model")
    assert "wavlm: up to date (24 of 24 utterances)" in local.study.succeeds("extract", "wavlm")


def test_a_model_that_has_changed_is_refused(local):
    """New rows would be another model's."""
    settings = json.loads((local.folder / "model" / "preprocessor_config.json").read_text())
    changed = json.dumps(settings | {"do_normalize": False})
    (local.folder / "model" / "preprocessor_config.json").write_text(changed)
    said = local.refuses()
    assert "views.wavlm computes other values now" in said
    assert "preprocessing: then" in said


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("layers: all", "layers: [0, 4]", "experiments.first of .* names layer 4 of wavlm, which would go"),
        (
            "layers: all",
            "grid: {layers: [all, [2], [0, 24]]}",
            "experiments.first, cell 0\\+24 of .* names layer 24 of wavlm",
        ),
        ("frames: [5]", "frames: [6]", "views.wavlm.frames of .* names layer 6 of wavlm"),
        (
            "eliminate:",
            "report: {tsne: [{view: all, label: speaker, layer: 3}]}\neliminate:",
            "report.tsne of .* names layer 3",
        ),
        (
            "eliminate:",
            "tune: {t: {experiment: first, space: {layers: [all, [1, 23]]}}}\neliminate:",
            "tune.t.space.layers of .* names layer 23",
        ),
        ("frames: [5]", "layers: {upto: 20}, frames: [5]", "has the layers 0–20, the elimination 0–24"),
        ("miniature:wavlm-large", "miniature:hubert-large", "is another view than .* was made from"),
        ("    wavlm: {family", "    wavml: {family", "unknown view 'wavlm'"),
        ("frames: [5]", "compute_dtype: bfloat16, frames: [5]", "compute_dtype: then 'float32', now 'bfloat16'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_moved(eliminated, before, after, message):
    """What names a layer that would go, by its place; another view than the layers were eliminated of."""
    assert_matches(eliminated.edit(before, after).refuses(), message)


def test_a_view_that_is_gone_is_named(eliminated):
    """With those that there are."""
    content = yaml.safe_load(PARAMS)
    content["views"].pop("wavlm")
    eliminated.file.write_text(yaml.safe_dump(content | {"experiments": {}, "eliminate": {}}))
    assert_matches(eliminated.refuses(), "has no views.wavlm, which .* is about; it has mfcc")


def test_a_store_of_other_values_is_refused(eliminated):
    """The elimination is of another extraction."""
    fingerprint = dict(FeatureStore.open(eliminated.path).header.fingerprint)
    eliminated.found(provenance={"views": {"wavlm": {"fingerprint": fingerprint | {"weights": "blake2b:0"}}}})
    assert_matches(eliminated.refuses(), "computes other values now .*weights: then 'blake2b:0'")
    shutil.rmtree(eliminated.path)
    FeatureStore.create(eliminated.path, fingerprint={"other": 1}, layer_names=["0"], dim=3)
    eliminated.found(provenance={"views": {"wavlm": {"fingerprint": fingerprint}}})
    assert_matches(eliminated.refuses(), "does not hold what .* was made from .*; run `strata eliminate wavlm` again")


def test_params_that_cannot_be_edited_are_refused(eliminated):
    """The user is told what to write; nothing is moved."""
    eliminated.edit(LINE, f"{LINE.replace('{family', '&large {family')}\n    again: *large")
    assert "write `layers: [0, 1, 2, 5, 7]` there by hand" in eliminated.refuses()


def test_a_wide_store_in_the_way_is_refused(eliminated):
    """It may be the only copy of something."""
    shutil.copytree(eliminated.path, eliminated.wide)
    assert "is there already, of an earlier narrowing" in eliminated.refuses()


def assert_matches(said: str, pattern: str) -> None:
    assert re.search(pattern, said), said
