import json

import pandas as pd
import pytest

from strata.pipeline.report.collect import collect
from tests.pipeline.report import grid_results


def told(study) -> str:
    """The gaps of a study, a line each."""
    return "\n".join(str(gap) for gap in collect(study.folder, study.params).gaps)


def test_what_is_missing_is_named_with_the_command_that_makes_it(empty):
    """Nothing was run: every stage's command is told, in the order of the pipeline."""
    empty.params["experiments"] = {"tango": {}}
    empty.params["eliminate"] = {"my layers": {}}
    assert told(empty).splitlines() == [
        "the corpus: run `strata corpus`",
        "the features of view wavlm: run `strata extract wavlm`",
        "experiment tango: run `strata train tango`",
        "layer elimination my layers: run `strata eliminate 'my layers'`",
    ]


def test_nothing_is_missing_from_a_full_study(full):
    """Everything that the stages wrote is read."""
    study = collect(full.folder, full.params)
    assert not study.gaps
    assert [e.name for e in study.experiments] == ["tango", "single-mfcc", "single-wavlm", "shared"]
    assert [e.name for e in study.eliminations] == ["wavlm"]
    assert list(study.extractions) == ["wavlm"]
    assert list(study.failures) == ["data/corpus.failures.csv"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("results/tango/metrics.json", "{"),
        ("results/tango/metrics.json", "[]"),
        ("results/tango/metrics.json", "{}"),
        ("results/tango/metrics.json", '{"tasks": {"age": 3}}'),
        ("results/tango/predictions.parquet", "not a table"),
        ("results/eliminate/wavlm/elimination.json", '{"rounds": [], "best_round": 1}'),
        ("results/tango/metrics.json", '{"tasks": {"age": {}}, "views": 3}'),
        ("data/manifest.parquet", ""),
    ],
)
def test_a_broken_file_is_named_and_the_rest_is_read(full, file, content):
    """A file that is not what it should be costs its own part of the report, no more."""
    (full.folder / file).write_text(content)
    study = collect(full.folder, full.params)
    assert len(study.gaps) == 1
    assert "cannot be read" in str(study.gaps[0])
    assert study.gaps[0].command
    assert len(study.experiments) + len(study.eliminations) + (study.manifest is not None) == 5


def test_an_elimination_that_contradicts_itself_is_refused(full):
    """The kept layers must be layers of the view."""
    path = full.folder / "results" / "eliminate" / "wavlm" / "elimination.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "support": ["99"]}))
    assert "layers ['99'] are not among its layer_names" in told(full)


def test_an_elimination_that_keeps_nothing_is_refused(full):
    """There is no round without a layer."""
    path = full.folder / "results" / "eliminate" / "wavlm" / "elimination.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "support": []}))
    assert "it keeps no layer" in told(full)


def test_the_layers_of_an_elimination_are_in_the_models_order(full):
    """However params.yaml listed them."""
    full.add_elimination("some", ["10", "last_hidden_state", "9", "0"], 2)
    assert collect(full.folder, full.params).eliminations[1].layer_names == ("0", "9", "10", "last_hidden_state")


def test_a_table_that_is_no_manifest_is_named(full):
    """Another tool's table in the manifest's place costs what is read from it, no more."""
    pd.DataFrame({"utterance": ["a"], "path": ["a.wav"]}).to_parquet(full.folder / "data" / "manifest.parquet")
    assert "ValueError: it has no column duration_s, speaker, content" in told(full)


def test_results_that_params_no_longer_names_are_left_out(full):
    """An experiment dropped from params.yaml must not win a comparison."""
    del full.params["experiments"]["shared"]
    study = collect(full.folder, full.params)
    assert "shared" not in [e.name for e in study.experiments]
    assert "params.yaml names them no more: shared" in told(full)


def test_results_of_other_stages_are_no_experiments_that_params_has_forgotten(wavcse):
    """Below results/ every stage has its own folder; what lies there is not for experiments to claim."""
    wavcse.write("embed/unified/metrics.json", {})
    wavcse.params["downstream"], wavcse.params["tune"] = {}, {}
    assert "names them no more" not in told(wavcse)


def test_what_searches_and_downstream_tasks_lack_is_named_with_its_command(empty):
    """As every other stage's."""
    empty.params |= {"tune": {"my rates": {}}, "downstream": {"ages": {}}, "embed": {"unified": {}}}
    assert told(empty).splitlines()[2:] == [
        "search my rates: run `strata tune 'my rates'`",
        "downstream task ages: run `strata downstream ages`",
    ]


@pytest.mark.parametrize("path", ["tune/widths/tune.json", "downstream/voices/metrics.json"])
def test_random_weights_are_known_from_every_stages_results(wavcse, path):
    """A search and a downstream task record their views as an experiment does."""
    wavcse.params["views"] = {}
    file = wavcse.folder / "results" / path
    recorded = {"provenance": {"views": {"tiny": {"fingerprint": {"source": "miniature:wavlm"}}}}}
    file.write_text(json.dumps(json.loads(file.read_text()) | recorded))
    assert collect(wavcse.folder, wavcse.params).miniature_views == ["tiny"]


def test_the_cells_of_a_grid_follow_from_params(gridded):
    """They are told apart from experiments of their own, and nothing is missing where all are trained."""
    study = collect(gridded.folder, gridded.params)
    assert len(study.cells) == 4 + 4 + 6 * 4
    assert not study.alone
    assert study.cells[8].name == "pairs/mine/mfcc+x-vector/concat"
    assert (study.cells[8].section, study.cells[8].corpora) == ("pairs", ("mine",))
    assert not [gap for gap in study.gaps if "features" not in gap.what and "corpus" not in gap.what]


def test_cells_that_are_not_trained_yet_are_one_line(gridded):
    """Hundreds of them are not hundreds of lines."""
    for cell in ("mfcc+wavlm/ot", "x-vector+wavlm/concat"):
        (gridded.folder / "results" / "pairs" / "mine" / cell / "metrics.json").unlink()
    assert "2 of the 24 cells of experiment pairs: run `strata train pairs`" in told(gridded).splitlines()
    assert len(collect(gridded.folder, gridded.params).cells) == 30


def test_cells_that_params_names_no_more_are_one_line_and_not_shown(gridded):
    """A view dropped from a grid takes its cells with it."""
    gridded.params["experiments"]["pairs"]["views"] = grid_results.VIEWS[:2]
    study = collect(gridded.folder, gridded.params)
    assert [cell.views for cell in study.cells if cell.section == "pairs"] == [("mfcc", "x-vector")] * 4
    lines = [line for line in told(gridded).splitlines() if "params.yaml names them no more" in line]
    assert len(lines) == 1
    assert "20 results, such as pairs/mine/mfcc+wavlm/concat" in lines[0]


def test_cells_that_cannot_be_read_are_one_line(gridded):
    """The first is named with its reason; the others are shown."""
    for path in sorted((gridded.folder / "results" / "svmt").rglob("metrics.json"))[:3]:
        path.write_text("{")
    lines = [line for line in told(gridded).splitlines() if "cannot be read" in line]
    assert len(lines) == 1
    assert "results/svmt/mine/mfcc/metrics.json cannot be read" in lines[0]
    assert "and 2 more" in lines[0]
    assert len(collect(gridded.folder, gridded.params).cells) == 29


def test_a_grid_that_cannot_be_costs_its_own_section(gridded):
    """The reason is that of the trainers."""
    gridded.params["experiments"]["pairs"]["grid"]["views"] = "triples"
    assert "experiment pairs (its grid cannot be: " in told(gridded)
    assert len(collect(gridded.folder, gridded.params).cells) == 8


def test_tables_of_cells_are_read_when_they_are_asked_for(gridded):
    """Hundreds of them need not be in memory side by side, and the probabilities never."""
    cell = collect(gridded.folder, gridded.params).cells[0]
    assert cell.predictions is None
    answers = [f"{task}.{side}" for task in grid_results.TASKS for side in ("true", "predicted")]
    assert list(cell.with_tables().predictions) == ["utterance", *answers]


@pytest.mark.parametrize("content", ["", "utterance,audio,reason\n"])
def test_a_failures_file_without_rows_is_no_failure(full, content):
    """An empty list of failures is the good case."""
    (full.folder / "features" / "mfcc.failures.csv").write_text(content)
    study = collect(full.folder, full.params)
    assert list(study.failures) == ["data/corpus.failures.csv"]
    assert not study.gaps


def test_random_weights_are_known_from_the_results_too(full):
    """A view renamed to a real model in params.yaml does not clean a result made with random weights."""
    full.params["views"]["wavlm"]["source"] = "microsoft/wavlm-base"
    path = full.folder / "results" / "tango" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["provenance"]["views"]["wavlm"]["fingerprint"]["source"] = "miniature:wavlm"
    path.write_text(json.dumps(metrics))
    assert collect(full.folder, full.params).miniature_views == ["xvector", "wavlm"]


def test_the_views_of_a_family_are_known_from_the_results_too(full):
    """As the weights are: a view that params.yaml no longer has is still in the result that it made."""
    full.params["views"] = {"egemaps": {"family": "opensmile"}, "mfcc": {"family": "mfcc"}}
    path = full.folder / "results" / "tango" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["provenance"]["views"]["wavlm"]["fingerprint"]["family"] = "opensmile"
    path.write_text(json.dumps(metrics))
    assert collect(full.folder, full.params).views_of("opensmile") == ["egemaps", "wavlm"]
