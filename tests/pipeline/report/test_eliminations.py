import json
import re

import numpy as np
import pytest

from strata.pipeline import report
from strata.pipeline.report import layer_figures, layer_tables
from strata.pipeline.report.collect import collect
from tests.pipeline.report import wavcse_results


@pytest.fixture
def crossed(wavcse):
    """An elimination of 25 layers, three seeds, five folds and three poolings."""
    return collect(wavcse.folder, wavcse.params).eliminations[0]


def changed(wavcse, **fields):
    """The same with other content."""
    wavcse.write("eliminate/crossed/elimination.json", wavcse_results.elimination("crossed", 25, 10) | fields)
    return collect(wavcse.folder, wavcse.params).eliminations[0]


def test_the_rounds_stand_with_their_spread_and_what_it_is_over(crossed):
    """Validation over the seeds, test over the folds; the chosen round alone is bold."""
    table = layer_tables.rounds(crossed)
    assert [(column.title, column.small) for column in table.columns[:4]] == [
        ("round", ""), ("layers left", ""), ("mean", "validation"), ("keyword", "validation"),
    ]  # fmt: skip
    assert [cell.text for cell in table.rows[9]] == [
        "10", "16", "0.9000 ± 0.0110", "0.9500 ± 0.0110", "0.9200 ± 0.0110", "0.8300 ± 0.0110",
        "0.8700 ± 0.0230", "0.9200 ± 0.0230", "0.8900 ± 0.0230", "0.8000 ± 0.0230", "15",
    ]  # fmt: skip
    assert [row[0].text for row in table.rows if row[0].best] == ["10"]
    assert "Validation: SD over 3 seeds. Test: mean and SD over 5 folds" in table.notes[2]


def test_the_choice_inside_the_folds_is_told_in_a_line_and_fold_by_fold(crossed):
    """What no test data had a part in; the pooling of each fold stands where there are several."""
    assert layer_tables.chosen_in_folds(crossed) == "chosen inside each fold: 0.8300 ± 0.0141 on test, 5–9 layers"
    table = layer_tables.inside_folds(crossed)
    assert [[cell.text for cell in row[:4]] for row in table.rows] == [
        ["1", "5", "Weighted Average", "0.8100"],
        ["2", "7", "Weighted Average", "0.8300"],
        ["3", "9", "Weighted Average", "0.8500"],
        ["4", "7", "Weighted Average", "0.8300"],
        ["5", "6", "Self-Attention", "0.8300"],
    ]
    assert table.foot[0][3].text == "0.8300 ± 0.0141"


def test_poolings_that_were_crossed_stand_side_by_side(crossed):
    """Each at its best round; test is the mean of the folds with as many layers."""
    table = layer_tables.poolings(crossed)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["Weighted Average", "10", "16", "0.9000", "0.8700 ± 0.0158"],
        ["Learned-Norm", "10", "16", "0.8800", "0.8500 ± 0.0158"],
        ["Self-Attention", "10", "16", "0.8600", "0.8300 ± 0.0158"],
    ]
    assert [row[0].best for row in table.rows] == [True, False, False]
    assert "Self-Attention" in layer_figures.poolings_curve(crossed).svg


def test_one_pooling_is_compared_with_nothing(wavcse):
    """Neither a table nor a column for it."""
    elimination = changed(wavcse)
    assert layer_tables.poolings(elimination) is None
    assert "pooling" not in [column.title for column in layer_tables.inside_folds(elimination).columns]


def test_what_a_cut_saves_is_read_where_it_was_measured(wavcse, crossed):
    """What was not measured is left out; a broken file costs this table alone, and names the command."""
    table = layer_tables.savings(crossed)
    assert table.caption == "What cutting the upstream after layer 15 saves"
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["pooled values of an utterance", "102.4 kB", "65.5 kB", "36.0 %"],
        ["parameters", "315 M", "240 M", "23.8 %"],
        ["memory for parameters", "1.260 GB (1.173 GiB)", "0.960 GB (0.894 GiB)", "23.8 %"],
        ["operations", "50 GFLOP", "40 GFLOP", "20.0 %"],
    ]
    assert table.notes == ("Time and operations: 4 s of noise, cpu, 1 thread.",)
    path = wavcse.folder / "results" / "eliminate" / "crossed" / "savings.json"
    path.write_text("{")
    study = collect(wavcse.folder, wavcse.params)
    assert layer_tables.savings(study.eliminations[0]) is None
    assert "run `strata layers results/eliminate/crossed`" in str(study.gaps[-1])
    path.unlink()
    assert layer_tables.savings(collect(wavcse.folder, wavcse.params).eliminations[0]) is None


def test_where_the_highest_layer_is_kept_nothing_is_said_to_be_cut(wavcse):
    """The caption owns up to it."""
    kept = changed(wavcse, support=["0", "24"])
    assert "layer 24 is kept, so that no part of the upstream can be left out" in layer_tables.savings(kept).caption


def test_one_fold_has_no_spread(wavcse):
    """As where a corpus gives its own split: an SD of nothing is not written as zero."""
    nested = {"mean": 0.83, "sd": 0.0, "folds": [0.83]}
    found = {"test": nested, "tasks": {"keyword": nested}, "kept": [3], "poolings": ["weighted"]}
    elimination = changed(wavcse, nested=found)
    assert layer_tables.chosen_in_folds(elimination) == "chosen without the test data: 0.8300 on test, 3 layers"
    assert [cell.text for cell in layer_tables.inside_folds(elimination).foot[0]][2:] == ["0.8300", "0.8300"]
    assert layer_tables.spread_of(elimination) == "Validation and test: SD over 3 seeds."


def test_every_task_has_its_curve_and_the_mean_as_well(wavcse_page):
    """Figure 3 of the paper; of a single task the mean would be the same curve twice."""
    for name in ("crossed", *(f"crossed by {task}" for task in wavcse_results.TASKS)):
        assert f'aria-label="Score per round of elimination {name}, 25 layers down to 1"' in wavcse_page


@pytest.mark.usefixtures("sketched")
def test_of_a_single_task_the_curve_stands_once(wavcse):
    """The mean over one task is that task."""
    only = wavcse_results.elimination("crossed", 25, 10)
    for found in only["rounds"]:
        for key in ("valid", "valid_sd", "test", "test_sd"):
            found[key] = {name: found[key][name] for name in ("mean", "speaker")}
    wavcse.write("eliminate/crossed/elimination.json", only)
    page = report.build(wavcse.folder, wavcse.params).read_text()
    assert page.count('aria-label="Score per round of elimination crossed') == 1


def test_bands_and_bars_are_drawn_where_there_is_a_spread(wavcse, crossed):
    """Two filled bands, and error bars over three seeds; a single seed has neither."""
    band = re.compile(r"fill-opacity: 0.16|opacity: 0.16")
    assert len(band.findall(layer_figures.elimination_curve(crossed, "speaker").svg)) >= 2
    assert "bars: SD over 3 seeds" in layer_figures.layer_weights(crossed).caption
    rounds = wavcse_results.elimination("crossed", 25, 10)["rounds"]
    for found in rounds:
        found |= {key: dict.fromkeys(found[key], 0.0) for key in ("weights_sd", "valid_sd", "test_sd")}
    alone = changed(wavcse, rounds=rounds, config={"seeds": [0]})
    assert not band.search(layer_figures.elimination_curve(alone, "speaker").svg)
    assert "SD" not in layer_figures.layer_weights(alone).caption
    assert "one seed, so no SD" in layer_tables.spread_of(alone)


@pytest.mark.parametrize(
    ("pooling", "importance", "axis"),
    [
        ("weighted", None, "weight in round 1"),
        ("weighted", "ablation", "rise of the validation loss"),
        ("max", None, "rise of the validation loss"),
    ],
)
def test_what_a_layer_is_worth_is_named_for_what_it_is(wavcse, pooling, importance, axis):
    """Shares of a weighted average are one thing, losses without a layer another."""
    config = {"seeds": [0, 1, 2], "importance": importance}
    assert axis in layer_figures.layer_weights(changed(wavcse, pooling=pooling, config=config)).svg


def test_an_elimination_of_an_earlier_version_is_shown_as_far_as_it_goes(full):
    """Without spreads, folds and paths: no band, no table of folds, and the mean test score in the outcome."""
    elimination = collect(full.folder, full.params).eliminations[0]
    assert layer_tables.inside_folds(elimination) is None
    assert layer_tables.spread_of(elimination) == ""
    assert layer_tables.rounds(elimination).rows[6][2].text == "0.9000"
    assert layer_tables.kept_layers(elimination).endswith("validation 0.9000, test 0.8700)")


@pytest.mark.usefixtures("sketched")
def test_a_path_that_is_no_number_costs_its_own_part(wavcse):
    """The weights, the rounds and everything else stand."""
    path = wavcse.folder / "results" / "eliminate" / "crossed" / "elimination.json"
    found = json.loads(path.read_text())
    found["paths"][0]["valid"][3] = "high"
    path.write_text(json.dumps(found))
    page = report.build(wavcse.folder, wavcse.params).read_text()
    assert "the curves of the poolings of layer elimination crossed (" in page
    assert 'aria-label="Layer weights of view wavlm' in page
    assert "Each pooling with the layers that suit it best" in page


def test_test_scores_of_a_round_are_those_of_the_folds(crossed):
    """Worked by hand: five folds 0.01 apart around the validation score less 0.03."""
    assert np.allclose(crossed.tests("learned-norm", 10), [0.83, 0.84, 0.85, 0.86, 0.87])
    assert crossed.tests("nothing", 10) == []
