"""`strata layers` tells an elimination's outcome, and what the cut saves."""

import json
import shutil

import huggingface_hub
import pytest
import yaml

from strata import extractors
from strata.extractors import miniatures
from strata.extractors.torch_setup import resolve_device
from strata.extractors.transformers.checkpoints import SPEECH_MODELS
from strata.pipeline import cli
from strata.pipeline.commands.layers import saving
from strata.pipeline.commands.layers.elimination import read
from strata.pipeline.report import layer_tables
from strata.pipeline.results.eliminations import read_elimination
from strata.store import FeatureStore
from tests.pipeline.commands.layers.eliminated import PARAMS


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


def test_its_help_has_an_example(capsys):
    """As every command's."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["layers", "--help"])
    assert stop.value.code == 0
    assert "example: strata layers results/eliminate/wavlm --write params.yaml" in capsys.readouterr().out
