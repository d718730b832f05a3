import re

import pytest

from strata.pipeline import report
from strata.pipeline.report import layer_tables, scores
from strata.pipeline.report.collect import collect
from strata.pipeline.show import tables


@pytest.fixture
def experiments(full):
    """Four experiments of three setups on three tasks."""
    return collect(full.folder, full.params).experiments


def test_the_comparison_has_the_papers_form(experiments):
    """Setups in the papers' order, mean ± SD over folds, accuracy in percent, RMSE as it is, chance below."""
    table = scores.comparison(experiments)
    assert [(column.title, column.small) for column in table.columns] == [
        ("setup", ""),
        ("views", ""),
        ("encoder", ""),
        ("utterances", ""),
        ("speaker", "accuracy (%) ↑"),
        ("emotion", "accuracy (%) ↑"),
        ("age", "RMSE ↓"),
    ]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["SVST", "mfcc", "cnn", "101", "61.00 ± 0.86", "21.00 ± 0.30", "15.50 ± 0.22"],
        ["SVST", "wavlm", "cnn", "101", "87.00 ± 1.23", "75.50 ± 1.07", "9.10 ± 0.13"],
        ["SVMT", "wavlm", "cnn", "101", "85.00 ± 1.20", "70.00 ± 0.99", "9.70 ± 0.14"],
        ["TANGO", "xvector + wavlm", "cnn", "101", "91.20 ± 1.29", "73.00 ± 1.03", "8.50 ± 0.12"],
    ]
    assert [cell.text for cell in table.foot[0]] == ["chance", "", "", "", "25.00", "25.00", "15.00"]


def test_the_best_of_a_column_is_marked_by_the_direction_of_its_metric(experiments):
    """More accuracy is better, less RMSE is."""
    best = [[cell.best for cell in row[4:]] for row in scores.comparison(experiments).rows]
    assert best == [[False] * 3, [False, True, False], [False] * 3, [True, False, True]]


def test_scores_that_print_alike_are_best_alike(full):
    """100 % twice is two winners."""
    full.add_experiment("a", "SVST", ["mfcc"], {"speaker": 1.0}, {"speaker": ["x", "y"]})
    full.add_experiment("b", "SVST", ["wavlm"], {"speaker": 0.999999}, {"speaker": ["x", "y"]})
    table = scores.comparison(collect(full.folder, full.params).experiments)
    assert [row[0].small for row in table.rows if row[4].best and row[0].small in "ab"] == ["a", "b"]


def test_a_score_no_better_than_chance_is_marked(experiments):
    """21 % where always the same answer has 25 %, and an RMSE above that of the mean."""
    table = scores.comparison(experiments)
    assert [cell.mark for cell in table.rows[0]] == ["", "", "", "", "", "°", "°"]
    assert table.notes[0].startswith("° no better than chance")


def test_a_lone_experiment_is_not_the_best_of_anything(experiments):
    """Bold says that something was compared."""
    assert not any(cell.best for row in scores.comparison(experiments[:1]).rows for cell in row)
    assert scores.best_of_setups(experiments[:1]) is None


def test_the_best_of_each_setup_names_its_views(experiments):
    """One row per setup, as in TANGO's Table 6."""
    table = scores.best_of_setups(experiments)
    assert [cell.text for cell in table.rows[0]] == ["SVST", "101", "87.00 ± 1.23", "75.50 ± 1.07", "9.10 ± 0.13"]
    assert [cell.small for cell in table.rows[0]] == ["", "", "wavlm", "wavlm", "wavlm"]
    assert [[cell.best for cell in row] for row in table.rows][2] == [False, False, True, False, True]
    assert table.notes == ("All with encoder cnn.",)


def test_experiments_on_different_manifests_are_not_compared_in_silence(full, experiments):
    """The note says where to look."""
    path = full.folder / "results" / "tango" / "metrics.json"
    path.write_text(path.read_text().replace("0123abcd", "4567cdef"))
    table = scores.comparison(collect(full.folder, full.params).experiments)
    assert any("the same state of the manifest" in note for note in table.notes)


def test_a_score_that_does_not_exist_is_a_dash(full):
    """A NaN on disk never reaches a table, nor wins it."""
    path = full.folder / "results" / "tango" / "metrics.json"
    path.write_text(path.read_text().replace('"rmse": {"mean": 8.5', '"rmse": {"mean": NaN'))
    table = scores.comparison(collect(full.folder, full.params).experiments)
    assert [row[6].text for row in table.rows] == ["15.50 ± 0.22", "9.10 ± 0.13", "9.70 ± 0.14", "–"]
    assert table.rows[1][6].best


def test_an_elimination_says_what_it_kept_and_what_that_saves(full):
    """Seven of thirteen layers, the six above them never needed again."""
    elimination = collect(full.folder, full.params).eliminations[0]
    assert layer_tables.kept_layers(elimination) == "0–6 (7 of 13; validation 0.9000, test 0.8700)"
    assert layer_tables.unneeded_layers(elimination) == 6
    rows = layer_tables.rounds(elimination).rows
    assert [row[0].text for row in rows if row[1].best] == ["7"]


@pytest.mark.parametrize(
    ("layers", "chosen", "kept", "saved"),
    [
        (["4", "0"], 2, "4 (1 of 2", 0),
        (["0", "4"], 2, "0 (1 of 2", 4),
        ([0, 2, 4], 2, "0, 2 (2 of 3", 2),
        ([0, 2, 4, 6], 2, "0, 2, 4 (3 of 4", 2),
        (["last_hidden_state", "12"], 2, "last_hidden_state (1 of 2", 0),
        (["3", "12", "last_hidden_state"], 3, "3 (1 of 3", 9),
        (["embedding"], 1, "embedding (1 of 1", 0),
    ],
)
def test_what_a_cut_saves_follows_from_the_layers_numbers(full, layers, chosen, kept, saved):
    """A view may keep only some layers, in any order: where they stand in the list says nothing of the upstream."""
    full.add_elimination("some", layers, chosen)
    elimination = collect(full.folder, full.params).eliminations[1]
    assert layer_tables.kept_layers(elimination).startswith(kept)
    assert layer_tables.unneeded_layers(elimination) == saved


def test_the_terminal_gets_the_same_table(full):
    """Aligned text with the best starred, the layers kept, and what the numbers are worth."""
    text = report.summary(full.folder, full.params)
    row = next(line.split() for line in text.splitlines() if line.startswith("SVMT"))
    assert row[:7] == ["SVMT", "wavlm", "cnn", "101", "85.00", "±", "1.20"]
    assert "91.20 ± 1.29*" in text
    assert "wavlm, view wavlm: 0–6 (7 of 13" in text
    assert "Synthetic speech: The corpus demo" in text
    assert "Random weights: The views wavlm and xvector" in text


def test_the_terminal_gets_what_wavcse_found_in_short(wavcse):
    """The poolings, the layers kept, the best of every search, the downstream tasks with what was skipped and why."""
    text = report.summary(wavcse.folder, wavcse.params)
    assert re.search(r"Learned-Norm +101 +97.10 ± 1.00\*", text)
    assert "crossed, view wavlm: 0–15 (16 of 25; validation 0.9000; chosen inside each fold: 0.8300 ± 0.0141" in text
    assert "  rates: batch_size 128, learning_rate 0.0001 (trial 11 of 31; mean validation score over the " in text
    assert "voices       speaker  unified    PLDA     EER (%) ↓       14.00 ± 1.83   50.00" in text
    assert "dialects: skipped, no corpus timit" in text


def test_the_terminal_of_an_empty_study_gets_the_next_commands(empty):
    """There is always something to go on with."""
    assert "the corpus: run `strata corpus`" in report.summary(empty.folder, empty.params)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (tables.duration(12.34), "12.3 s"),
        (tables.duration(90), "1.5 min"),
        (tables.duration(7200), "2.00 h"),
        (tables.duration(None), "–"),
        (tables.size(999), "999 B"),
        (tables.size(4_200_000), "4.2 MB"),
        (tables.size(4.2e12), "4.2 TB"),
        (tables.number(float("nan")), "–"),
        (tables.number(1234.5, 0), "1,234"),
        (tables.number(-0.001), "0.00"),
    ],
)
def test_numbers_are_written_in_the_unit_that_suits_them(written, expected):
    """What is no number is a dash."""
    assert written == expected
