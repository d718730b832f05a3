"""`strata layers`: an elimination's outcome told, weighed and put to use."""

import json
import os
import re
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import soundfile
import yaml

from strata import extractors
from strata.extractors import miniatures
from strata.extractors.torch_setup import resolve_device
from strata.extractors.transformers.checkpoints import SPEECH_MODELS
from strata.pipeline import cli
from strata.pipeline.commands.layers import narrowing, saving
from strata.pipeline.commands.layers.elimination import read, with_layers
from strata.pipeline.extraction.work import values
from strata.pipeline.report import layer_tables
from strata.pipeline.results import writing
from strata.pipeline.results.eliminations import SAVINGS, read_elimination
from strata.pipeline.study.folder import Study
from strata.store import FeatureStore, narrow

KEPT = [0, 1, 2, 5, 7]
PARAMS = """\
# A study of tones.
corpora:
    tones: {adapter: folder, root: recordings}   # made by the test

views:  # one of them is narrowed
    mfcc:  { family: mfcc }
    wavlm: {family: transformers, source: "miniature:wavlm-large", frames: [5]} # Large has 25 hidden states

tasks: {speaker: {kind: classification}}
experiments:
    first:
        views: [wavlm]
        layers: all
        tasks: [speaker]
eliminate:
    wavlm: {view: wavlm, tasks: ['speaker']}
"""
LINE = '    wavlm: {family: transformers, source: "miniature:wavlm-large", frames: [5]} # Large has 25 hidden states'
NARROW = LINE.replace("[5]}", f"[5], layers: {KEPT}}}")


class Eliminated:
    """A study whose view has been extracted and eliminated, and what a test asks of it."""

    def __init__(self, study):
        self.study, self.folder = study, study.folder
        self.file = self.folder / "params.yaml"
        self.results = self.folder / "results" / "eliminate" / "wavlm"
        self.path = self.folder / "features" / "wavlm.zarr"
        self.wide = self.folder / "wide" / "wavlm.zarr"

    def found(self, kept=KEPT, depth: int = 24, **changes) -> "Eliminated":
        """Writes elimination.json, as `strata eliminate` does, of a round whose layers are these."""
        names = [str(layer) for layer in range(depth + 1)]
        support = [str(layer) for layer in kept]
        order = [name for name in reversed(names) if name not in support] + support[::-1]
        rounds = [
            {
                "round": number + 1,
                "layers": [name for name in names if name not in order[:number]],
                "valid": {"speaker": 0.5 + number / 1000, "mean": 0.5 + number / 1000},
                "valid_sd": {"speaker": 0.01, "mean": 0.02},
                "test": {"speaker": 0.25, "mean": 0.25},
                "test_sd": {"speaker": 0.03, "mean": 0.04},
                "dropped": order[number] if number < len(names) - 1 else None,
            }
            for number in range(len(names))
        ]
        gone = order[: len(names) - len(support)]
        store = FeatureStore.open(self.path) if self.path.exists() else None
        content = {
            "name": "wavlm",
            "view": "wavlm",
            "tasks": ["speaker"],
            "pooling": "weighted",
            "layer_names": names,
            "support": support,
            "ranking": {name: 1 if name in support else len(gone) - gone.index(name) + 1 for name in names},
            "best_round": len(gone) + 1,
            "rounds": rounds,
            "nested": {"test": {"mean": 0.75, "sd": 0.125, "folds": [0.875, 0.625, 0.75]}, "kept": [5, 6, 5]},
            "provenance": {"views": {"wavlm": {"fingerprint": store and dict(store.header.fingerprint), "rows": 24}}},
        }
        self.results.mkdir(parents=True, exist_ok=True)
        (self.results / "elimination.json").write_text(json.dumps(content | changes))
        return self

    def layers(self, *arguments: str) -> tuple[str, str]:
        """stdout and stderr of `strata layers`, which must succeed."""
        self.study.capsys.readouterr()
        status = cli.main(["layers", str(self.results), *arguments])
        out, err = self.study.capsys.readouterr()
        assert status == 0, err
        return out, err

    def write(self) -> str:
        """What is said of narrowing the view."""
        return self.layers("--no-time", "--write", str(self.file))[1]

    def refuses(self, *arguments: str) -> str:
        """The one line of a refusal to narrow, which has changed nothing."""
        self.study.capsys.readouterr()
        before = self.file.read_bytes(), self.state()
        assert cli.main(["layers", str(self.results), "--no-time", "--write", str(self.file), *arguments]) == 1
        assert (self.file.read_bytes(), self.state()) == before
        return self.study.capsys.readouterr().err.splitlines()[-1]

    def state(self) -> dict[str, int]:
        """All files of the stores, with their times, and what was written beside the elimination but its savings."""
        found = [file for name in ("features", "wide", "results") for file in (self.folder / name).rglob("*")]
        return {
            str(file): file.stat().st_mtime_ns
            for file in found
            if file.is_file() and file.suffix != ".lock" and ".tmp" not in str(file) and file.name != SAVINGS
        }

    def edit(self, before: str, after: str) -> "Eliminated":
        """Another text in the params file."""
        text = self.file.read_text()
        assert before in text
        self.file.write_text(text.replace(before, after))
        return self

    def assert_narrow(self, wide: dict) -> None:
        """The store has the kept layers of these rows, bit for bit; the wide one is kept; params.yaml says so."""
        assert self.file.read_text() == PARAMS.replace(LINE, NARROW)
        for place, numbers in ((self.path, KEPT), (self.wide, range(25))):
            store = FeatureStore.open(place)
            assert store.verify() == []
            assert store.layer_names == tuple(map(str, numbers))
            assert store.keys == wide["keys"]
            assert store.pooled().tobytes() == wide["pooled"][:, numbers].tobytes()
            assert [f.tobytes() for f in store.frames(store.keys, "5")] == [f.tobytes() for f in wide["frames"]]


@pytest.fixture(scope="module")
def made(new_study, silence, tmp_path_factory):
    """To be copied; and the rows of its store."""
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


# -- the outcome ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sd", [0.0, None])
def test_one_training_has_no_standard_deviation(eliminated, sd):
    """One seed and one fold: nothing follows a mean, in files of earlier versions too, which said 0."""
    nested = {"test": {"mean": 0.75, "sd": sd, "folds": [0.75]}, "kept": [5]}
    eliminated.found(nested=nested, config={"seeds": [0], "folds": {"given": "split"}})
    out, _ = eliminated.layers("--no-time")
    assert "±" not in out
    assert "without its test data; of one training, which has no SD." in " ".join(out.split())
    report = read_elimination(eliminated.results / "elimination.json")
    assert "±" not in str([layer_tables.rounds(report), layer_tables.inside_folds(report)])
    assert "one seed, so no SD" in layer_tables.spread_of(report)


def test_the_outcome_is_told_with_what_the_cut_saves(eliminated):
    """Scores of the chosen round, of all layers and of the nested choice; the numbers of the fixture, by hand."""
    out, err = eliminated.layers()
    said = {line.split("  ")[0]: " ".join(line.split()) for line in out.splitlines()}
    assert said["layers"] == "layers 5 25"
    assert said["validation, mean"] == "validation, mean 0.5200 ± 0.0200 0.5000 ± 0.0200"
    assert said["validation, speaker"] == "validation, speaker 0.5200 ± 0.0100 0.5000 ± 0.0100"
    assert said["test, mean"] == "test, mean 0.7500 ± 0.1250 0.2500 ± 0.0400"
    assert "Layers kept: 0–2, 5, 7." in out
    assert "Dropped, in this order: 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 6, 4, 3." in out
    assert "round 21 of 25, pooling weighted" in out
    assert "chosen in each of 3 folds without its test data" in out
    kept = json.loads((eliminated.folder / "results/eliminate/wavlm/savings.json").read_text())
    assert kept["parameters"]["cut"] < kept["parameters"]["whole"]
    assert "What cutting the model of wavlm after layer 7 saves" in out
    assert {"parameters", "bytes of parameters", "operations", "time"} <= said.keys()
    assert "Random weights: The view wavlm is computed by untrained miniatures" in out
    assert err == ""


def test_the_numbers_of_the_cut_are_those_of_the_two_models(eliminated):
    """Parameters as Hugging Face's own model of so many layers has them; fewer operations, and times of both."""
    (out, _) = eliminated.layers("--json")
    found = json.loads(out)
    settings = miniatures.TRANSFORMERS["wavlm-large"][0]
    config_class, model_class = SPEECH_MODELS["wavlm"]
    for which, depth, count in (("whole", 24, 25), ("cut", 7, 5)):
        model = model_class(config_class.from_dict({**settings, "num_hidden_layers": depth}))
        cost = found["saving"][which]
        assert cost["parameters"] == sum(parameter.numel() for parameter in model.parameters())
        assert cost["bytes"] == 4 * cost["parameters"]
        assert (cost["layers"], cost["pooled_bytes"]) == (count, count * 32 * 4)
        assert cost["seconds"] > 0
    assert 0 < found["saving"]["cut"]["operations"] < found["saving"]["whole"]["operations"]
    assert found["saving"]["rounds"] >= saving.FEWEST_ROUNDS
    assert found["saving"]["device"].startswith(str(resolve_device("auto")))
    assert found["support"] == ["0", "1", "2", "5", "7"]
    assert (found["rounds"], found["best_round"], found["ranking"]["24"], found["ranking"]["3"]) == (25, 21, 21, 2)
    assert found["valid"] == {"kept": {"speaker": 0.52, "mean": 0.52}, "all": {"speaker": 0.5, "mean": 0.5}}
    assert found["nested_test"]["folds"] == [0.875, 0.625, 0.75]


def test_without_times_no_model_is_run(eliminated, monkeypatch):
    """Parameters and bytes need no weights."""
    monkeypatch.setattr(saving.work, "values", lambda *_: pytest.fail("a model was run"))
    out, _ = eliminated.layers("--no-time", "--json")
    found = json.loads(out)["saving"]
    assert found["cut"]["parameters"] < found["whole"]["parameters"]
    assert (found["rounds"], found["cut"]["seconds"], found["cut"]["operations"]) == (0, None, None)
    assert not {line.split("  ")[0] for line in eliminated.layers("--no-time")[0].splitlines()} & {"time", "operations"}


def test_the_file_itself_may_be_named_and_no_test_data_there_be(eliminated):
    """`nested` is empty where nothing was tested; then there is no line of it."""
    eliminated.found(nested={"test": {}, "kept": []})
    eliminated.results = eliminated.results / "elimination.json"
    out, _ = eliminated.layers("--no-time")
    assert "Layers kept: 0–2, 5, 7." in out
    assert "est, mean" not in out.replace("validation, mean", "")


def test_where_the_highest_layer_is_kept_nothing_is_cut(eliminated):
    """And that is said in the place of what the cut saves."""
    out, _ = eliminated.found([3, 24]).layers("--no-time")
    assert "Layer 24 is kept: no part of the model of wavlm can be left out" in out
    assert {line.split()[-1] for line in out.splitlines() if line.startswith(("param", "bytes"))} == {"0.0%"}


def test_a_model_that_is_not_here_is_said_to_be_absent(eliminated, monkeypatch):
    """One line; the outcome is told all the same, and nothing is downloaded."""
    fingerprint = dict(FeatureStore.open(eliminated.path).header.fingerprint) | {"source": "microsoft/wavlm-large"}
    eliminated.found(provenance={"views": {"wavlm": {"fingerprint": fingerprint}}})
    eliminated.edit("miniature:wavlm-large", "microsoft/wavlm-large")
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_: pytest.fail("the hub was asked"))
    out, err = eliminated.layers()
    assert "Layers kept: 0–2, 5, 7." in out
    assert "saves" not in out
    assert err.splitlines() == ["the model of views.wavlm is not on this machine: what cutting it saves is left out"]
    assert json.loads(eliminated.layers("--json")[0])["saving"] is None


def test_a_family_without_layers_is_refused(eliminated):
    """In one line, whatever it is called."""
    eliminated.found(view="mfcc", provenance={"views": {"mfcc": {"fingerprint": {"family": "mfcc"}}}})
    assert "views.mfcc: expected a family whose model can be cut after a layer" in eliminated.refuses()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"support": []}, r"cannot be read \(it keeps no layer\)"),
        ({"support": ["77"]}, "cannot be read"),
        ({"best_round": 26}, r"cannot be read \(best_round 26 is not among its rounds\)"),
        ({"provenance": {}}, r"cannot be read \(provenance: no fingerprint of view wavlm\)"),
        ({"ranking": {}}, r"cannot be read \(ranking: expected all of"),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused(eliminated, changes, message):
    """Where it is read, not where it is used."""
    with pytest.raises(ValueError, match=message):
        read(eliminated.found(**changes).results)


def test_no_results_are_one_line(eliminated):
    """With the command that makes them."""
    shutil.rmtree(eliminated.results)
    assert "expected the results of an elimination, such as results/eliminate/wavlm" in eliminated.refuses()


def test_a_text_view_is_weighed_by_a_text(eliminated, tmp_path):
    """Its size is not known, its operations and times are."""
    text = {"family": "text", "source": "miniature:bert"}
    fingerprint = extractors.load(text, folder=tmp_path).fingerprint
    eliminated.file.write_text(yaml.safe_dump(yaml.safe_load(PARAMS) | {"views": {"wavlm": text}}))
    eliminated.found([0, 2], depth=4, provenance={"views": {"wavlm": {"fingerprint": fingerprint}}})
    found = json.loads(eliminated.layers("--json")[0])["saving"]
    assert (found["whole"]["parameters"], found["cut"]["layers"]) == (None, 2)
    assert 0 < found["cut"]["operations"] < found["whole"]["operations"]
    assert found["sample"] == "1 text of 16 words"


# -- written -------------------------------------------------------------------------------------------------------


def test_the_view_and_its_store_are_narrowed_and_extraction_goes_on_from_there(eliminated, wide):
    """Rows are kept bit for bit and not computed again; new ones are, by the cut model, with the whole one's values."""
    said = eliminated.write()
    eliminated.assert_narrow(wide)
    assert f"{eliminated.path}: 24 rows of 5 layers, copied and not computed again" in said
    assert f"{eliminated.wide}: the store as it was, " in said
    assert "views.wavlm now has the layers 0–2, 5, 7" in said
    study = eliminated.study
    assert "wavlm: up to date (24 of 24 utterances)" in study.succeeds("extract", "wavlm")
    study.add(3).succeeds("corpus")
    said = study.succeeds("extract", "wavlm")
    assert "wavlm: 3 new of 27 utterances" in said
    assert "wavlm: computed 3 utterances" in said
    assert "wavlm: cut after layer 7: " in said

    store = FeatureStore.open(eliminated.path)
    assert store.pooled(wide["keys"]).tobytes() == wide["pooled"][:, KEPT].tobytes()
    new = store.keys[24:]
    whole = extractors.load({"family": "transformers", "source": "miniature:wavlm-large"}, folder=eliminated.folder)
    manifest = Study(eliminated.file).read_manifest().set_index("content")
    for key in new:
        waveform, rate = soundfile.read(eliminated.folder / manifest.loc[key, "audio"], dtype="float32")
        assert rate == 16_000
        (states,) = values(whole, [waveform])
        scale = np.abs(states.pooled[KEPT]).max()
        np.testing.assert_allclose(store.pooled([key])[0], states.pooled[KEPT], rtol=0, atol=1e-4 * scale)


def test_what_was_written_is_noted_for_the_elimination(eliminated):
    """The section as `strata eliminate` will find it in params.yaml."""
    eliminated.write()
    found = json.loads((eliminated.results / "written.json").read_text())
    now = Study(eliminated.file).params.views["wavlm"]
    assert found == {"view": "wavlm", "section": now.model_dump(mode="json")}
    assert found["section"]["layers"] == KEPT


def test_a_second_call_changes_nothing(eliminated, wide):
    """It says that all is done; also when the wide store has been removed."""
    eliminated.write()
    before = eliminated.state()
    said = eliminated.write()
    assert "24 rows, of the layers kept already" in said
    assert "views.wavlm has the layers 0–2, 5, 7" in said
    assert eliminated.state() == before
    eliminated.assert_narrow(wide)
    shutil.rmtree(eliminated.wide)
    eliminated.write()
    assert not eliminated.wide.exists()


def test_all_layers_kept_are_nothing_to_write(eliminated):
    """No list in the place of `all`, no copy of a store."""
    eliminated.found(range(25))
    before = eliminated.state(), eliminated.file.read_bytes()
    assert "all 25 layers are kept: nothing to write" in eliminated.write()
    assert (eliminated.state(), eliminated.file.read_bytes()) == before


def test_where_there_is_no_store_only_params_are_edited(eliminated):
    """With a line that says what to do where there is one."""
    shutil.move(eliminated.path, eliminated.folder / "carried")
    said = eliminated.write()
    assert "is not here, so only" in said
    assert "before `strata extract wavlm`" in said
    assert eliminated.file.read_text() == PARAMS.replace(LINE, NARROW)
    assert not eliminated.wide.exists()
    shutil.move(eliminated.folder / "carried", eliminated.path)  # the machine that has it
    assert "copied and not computed again" in eliminated.write()
    assert "up to date (24 of 24" in eliminated.study.succeeds("extract", "wavlm")


@pytest.mark.parametrize("step", ["first rename", "second rename", "written.json", "params.yaml"])
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
def test_cut_short_anywhere_the_same_command_ends_well(eliminated, wide, monkeypatch, step, after):
    """Nothing is lost in between: the wide store is whole in one of its places."""

    def failing(action, wanted):
        calls = []

        def call(*arguments):
            calls.append(arguments)
            if wanted not in (len(calls), Path(arguments[0]).name):
                return action(*arguments)
            if after:
                action(*arguments)
            raise OSError("the disk is gone")

        return call

    with monkeypatch.context() as broken:
        if step.endswith("rename"):
            broken.setattr(narrow.os, "rename", failing(os.rename, ["first rename", "second rename"].index(step) + 1))
        else:
            for module in (narrowing, writing):
                broken.setattr(module, "write_if_changed", failing(module.write_if_changed, step))
        eliminated.study.capsys.readouterr()
        arguments = ["layers", str(eliminated.results), "--no-time", "--write", str(eliminated.file)]
        assert cli.main(arguments) == 1
        assert "the disk is gone" in eliminated.study.capsys.readouterr().err
    places = [place for place in (eliminated.path, eliminated.wide) if FeatureStore.exists(place)]
    assert 25 in [len(FeatureStore.open(place).layer_names) for place in places]
    eliminated.write()
    eliminated.assert_narrow(wide)
    assert json.loads((eliminated.results / "written.json").read_text())["section"]["layers"] == KEPT
    assert "wavlm: up to date (24 of 24 utterances)" in eliminated.study.succeeds("extract", "wavlm")


def test_what_means_something_else_now_is_said(eliminated):
    """`layers: last`, and another elimination on the view."""
    eliminated.edit("layers: all", "layers: last").edit(
        "    wavlm: {view: wavlm, tasks: ['speaker']}\n",
        "    wavlm: {view: wavlm, tasks: ['speaker']}\n    other: {view: wavlm, tasks: [speaker]}\n",
    )
    said = eliminated.write()
    assert "`layers: last` of wavlm is layer 7 now and was layer 24: experiments.first" in said
    assert "eliminate.other will begin with the layers that are left" in said
    eliminated.edit("layers: last", "layers: [0, 7]")
    assert "last" not in eliminated.write()


# -- the fingerprint -----------------------------------------------------------------------------------------------

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


# -- refused -------------------------------------------------------------------------------------------------------


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


# -- under DVC -----------------------------------------------------------------------------------------------------


def test_under_dvc_the_narrow_store_is_the_view_from_then_on(repository):
    """`dvc repro` computes nothing and keeps the narrow store; git does not see the wide one."""
    repository.params["views"] = {"wavlm": {"family": "transformers", "source": "miniature:wavlm"}}
    repository.params |= {"experiments": {}, "eliminate": {"wavlm": {"view": "wavlm", "tasks": ["speaker"]}}}
    repository.write_params().process("dvc", "repro", "extract")
    eliminated = Eliminated(repository).found([0, 2], depth=4)
    eliminated.write()
    said = repository.process("dvc", "repro", "extract")
    assert "wavlm: up to date (24 of 24 utterances)" in said
    assert "are up to date" in repository.process("dvc", "status", "extract")
    assert "wide" not in repository.process("git", "status", "--short", "--untracked-files=all")
    shutil.rmtree(eliminated.path)
    repository.process("dvc", "checkout", "extract@wavlm")
    assert FeatureStore.open(eliminated.path).layer_names == ("0", "2")


def test_its_help_has_an_example(capsys):
    """As every command's."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["layers", "--help"])
    assert stop.value.code == 0
    assert "example: strata layers results/eliminate/wavlm --write params.yaml" in capsys.readouterr().out
