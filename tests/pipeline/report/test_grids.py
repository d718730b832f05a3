import json
import re

import pytest

from strata.pipeline import report
from strata.pipeline.report import grids, heatmaps
from strata.pipeline.report.collect import collect
from tests.pipeline.report import grid_results


@pytest.fixture
def sheet(gridded):
    """What three grids found out about one corpus."""
    (sheet,) = grids.sheets(collect(gridded.folder, gridded.params))
    return sheet


def means(study, name: str, task: str, metric: str) -> float:
    """A cell's score as it stands on disk."""
    metrics = json.loads((study.folder / "results" / name / "metrics.json").read_text())
    return metrics["tasks"][task][metric]["mean"]


def test_the_tables_have_the_papers_form(sheet):
    """One view alone: tasks across. Two views: for each task concatenation beside TANGO, then the two directions."""
    assert [table.caption.split(":")[0] for table in sheet.tables] == [
        "mine, SVST",
        "mine, SVMT",
        "mine, MVMT",
        "mine, TANGO in one direction",
        "mine, TANGO against concatenation",
    ]
    alone, _, fused, directed, _ = sheet.tables
    assert [c.title for c in alone.columns] == ["views", "speaker", "emotion", "gender", "age"]
    assert [row[0].text for row in alone.rows] == grid_results.VIEWS
    assert [(c.above, c.title) for c in fused.columns][:3] == [
        ("", "views"),
        ("speaker", "concat"),
        ("speaker", "TANGO"),
    ]
    assert [(span.title, span.place, span.width) for span in fused.spans] == [
        ("", 0, 1),
        ("speaker", 1, 2),
        ("emotion", 3, 2),
        ("gender", 5, 2),
        ("age", 7, 2),
    ]
    assert [c.title for c in directed.columns[1:3]] == ["x1→x2", "x2→x1"]
    assert [row[0].text for row in fused.rows][:2] == ["mfcc + x-vector", "mfcc + wavlm"]
    assert [cell.text for cell in alone.foot[0]] == ["chance", "4.17", "20.00", "50.00", "15.00"]
    assert alone.caption == "mine, SVST: each view alone, a model per task (svst)"
    assert alone.notes[0] == "4 cells; encoder mlp; mean ± SD over 5 folds."
    assert {row[0].small for row in alone.rows} == {"101 utterances"}


def test_every_score_stands_in_its_row_and_column_and_leads_to_its_cell(gridded, sheet):
    """Held against the files, cell by cell."""
    for row in sheet.tables[2].rows:
        for cell, column in zip(row[1:], sheet.tables[2].columns[1:], strict=True):
            views = row[0].text.replace(" + ", "+")
            name = f"pairs/mine/{views}/{'concat' if column.title == 'concat' else 'ot'}"
            assert cell.link == name
            metric = "rmse" if column.above == "age" else "accuracy"
            assert cell.value == means(gridded, name, column.above, metric)


def test_the_best_of_every_column_is_bold_by_its_metric(sheet):
    """The highest accuracy of a fusion, the lowest error."""
    table = sheet.tables[2]
    for place, column in enumerate(table.columns[1:], 1):
        pick = min if column.lowest_first else max
        best = pick(row[place].value for row in table.rows)
        assert column.lowest_first == (column.above == "age")
        assert best in [row[place].value for row in table.rows if row[place].best]
        assert sum(row[place].best for row in table.rows) < len(table.rows)


def test_the_best_of_each_setup_is_told_per_corpus(gridded, sheet):
    """As in TANGO's Table 6, with the views that reached it."""
    (best,) = sheet.best
    assert [row[0].text for row in best.rows] == [
        "SVST",
        "SVMT",
        "MVMT-concat",
        "TANGO",
        "TANGO x1→x2",
        "TANGO x2→x1",
    ]
    found = {v: means(gridded, f"svst/mine/{v}", "age", "rmse") for v in grid_results.VIEWS}
    assert best.rows[0][5].small == f"{min(found, key=found.get)}, mlp"
    assert [row[1].text for row in best.rows] == ["101"] * 6
    assert "optimistic" in best.notes[0]


def test_cells_that_were_tested_in_another_way_do_not_compete(empty):
    """Unseen speakers are harder: the best of each setup, and a map's diagonal, are told for each kind of folds."""
    views = grid_results.VIEWS
    empty.add_grids()
    section = {"views": views, "tasks": ["emotion", "age"], "folds": {"disjoint": "speaker"}, "grid": {"views": "each"}}
    empty.params["experiments"] = {"unseen": section, **empty.params["experiments"]}
    grid_results.write(empty.folder, "unseen", section, ["mine"])
    (sheet,) = grids.sheets(collect(empty.folder, empty.params))
    unseen, seen = sheet.best
    assert [row[0].text for row in unseen.rows] == ["SVMT"]
    assert {cell.link.split("/")[0] for row in unseen.rows for cell in row[2:]} == {"unseen"}
    assert "unseen" not in {cell.link.split("/")[0] for row in seen.rows for cell in row[2:]}
    assert len(sheet.heatmaps) == 4
    assert {heat.rows[0][0].name for heat in sheet.heatmaps} == {"svmt/mine/mfcc"}


def test_corpora_have_sheets_of_their_own(empty):
    """What is synthetic is said beside the numbers of that corpus alone, and random weights where they were used."""
    empty.params["corpora"] = {"demo": {"adapter": "demo"}, "mine": {"adapter": "folder"}}
    empty.params["views"]["wavlm"]["source"] = "miniature:wavlm"
    empty.add_grids(views=["mfcc", "wavlm", "x-vector"])
    sheets = grids.sheets(collect(empty.folder, empty.params))
    assert [(sheet.corpora, sheet.about) for sheet in sheets] == [
        ("demo", ("speech", "weights")),
        ("mine", ("weights",)),
    ]
    assert {row[1].link.split("/")[1] for table in sheets[1].tables for row in table.rows} == {"mine"}


def test_cells_that_differ_in_a_parameter_stand_side_by_side(empty):
    """A grid over a field of the fusion: a column for each value, named by field and value; what all columns share, the
    fusion, is told once in the caption."""
    section = grid_results.sections(["mfcc", "wavlm", "x-vector"])["pairs"]
    section |= {"fusion": "ot", "grid": {"corpora": "each", "views": "pairs", "fusion.epsilon": [0.1, 0.01]}}
    empty.params["experiments"]["pairs"] = section
    grid_results.write(empty.folder, "pairs", section, ["mine"])
    (sheet,) = grids.sheets(collect(empty.folder, empty.params))
    titles = [column.title for column in sheet.tables[0].columns if column.above == "age"]
    assert titles == ["fusion.epsilon 0.1", "fusion.epsilon 0.01"]
    assert sheet.tables[0].caption == "mine, MVMT: two views, one model for all tasks; TANGO alone (pairs)"
    assert sheet.tables[0].rows[0][1].link == "pairs/mine/mfcc+wavlm/0.1"


def test_a_task_per_cell_is_a_column_each(empty):
    """Where the grid varies the tasks, cells of the same views share a row."""
    section = {"views": ["mfcc", "wavlm"], "tasks": ["speaker", "age"], "grid": {"views": "each", "tasks": "each"}}
    empty.params["experiments"]["single"] = section
    grid_results.write(empty.folder, "single", section, ["mine"])
    (sheet,) = grids.sheets(collect(empty.folder, empty.params))
    (table,) = sheet.tables
    assert [[cell.link for cell in row[1:]] for row in table.rows] == [
        [f"single/{view}/{task}" for task in ("speaker", "age")] for view in ("mfcc", "wavlm")
    ]


def test_one_cell_and_one_fold_are_told_in_the_singular(empty):
    """A grid of a single cell, tested once."""
    section = {"views": ["mfcc"], "tasks": ["age"], "grid": {"views": "each"}}
    empty.params["experiments"]["single"] = section
    grid_results.write(empty.folder, "single", section, ["mine"])
    path = empty.folder / "results" / "single" / "mfcc" / "metrics.json"
    path.write_text(path.read_text().replace('"num_folds": 5', '"num_folds": 1'))
    study = collect(empty.folder, empty.params)
    (sheet,) = grids.sheets(study)
    assert sheet.tables[0].notes[0] == "1 cell; encoder mlp; of one fold, which has no SD."
    page = report.build(empty.folder, empty.params).read_text()
    assert re.findall(r"<li><b>1</b> (.*?)</li>", page) == ["view", "task", "cell of a grid"]


def test_scores_of_other_folds_are_not_compared_in_silence(gridded):
    """The hash of the folds tells."""
    path = gridded.folder / "results" / "svst" / "mine" / "mfcc" / "metrics.json"
    path.write_text(path.read_text().replace("f01d", "0the2"))
    (sheet,) = grids.sheets(collect(gridded.folder, gridded.params))
    assert ["same folds" in " ".join(table.notes) for table in sheet.tables[:4]] == [True, False, False, False]


def test_a_map_has_transport_above_concatenation_below_and_one_view_on_its_diagonal(gridded, sheet):
    """One map per task; every field is the cell that it names."""
    assert len(sheet.heatmaps) == 4
    rows = sheet.heatmaps[0].rows
    assert rows[0][1].name == "pairs/mine/mfcc+x-vector/ot"
    assert rows[1][0].name == "pairs/mine/mfcc+x-vector/concat"
    assert rows[2][2].name == "svmt/mine/wavlm"
    assert rows[0][1].text == f"{100 * means(gridded, rows[0][1].name, 'speaker', 'accuracy'):.1f}"


def test_the_darkest_field_is_the_best_whichever_way_the_metric_runs(sheet):
    """The highest accuracy, the lowest RMSE; the scale's ends are told."""
    for heat in sheet.heatmaps:
        fields = [field for row in heat.rows for field in row if field]
        best = next(field for field in fields if field.share == 1)
        worst = next(field for field in fields if field.share == 0)
        assert (best.text, worst.text) == (heat.best, heat.worst)
        assert (float(heat.best) < float(heat.worst)) == ("RMSE ↓" in heat.caption)


def test_two_views_make_no_map(empty):
    """One pair is a number, which the table has."""
    empty.add_grids(views=["mfcc", "wavlm"])
    study = collect(empty.folder, empty.params)
    assert heatmaps.heatmaps(study.cells, "mine") == []


@pytest.mark.usefixtures("sketched")
def test_the_page_keeps_grids_out_of_the_comparison(full):
    """Hundreds of rows there would hide the few that stand for themselves; timings and provenance are a line each."""
    full.add_grids()
    page = report.build(full.folder, full.params).read_text()
    sections = {part.split('"')[0]: part for part in page.split('<section id="')[1:]}
    assert 'data-cell="svst/' not in sections["comparison"]
    assert sections["grids"].count("<table") == 2 * (1 + 5 + 4)
    assert "train, 48 cells" in sections["timings"]
    assert sections["provenance"].count("<summary>") == 4 + 3 + 1 + 1
    assert "cells of grids" in page


def test_the_terminal_gets_the_best_of_every_grid(gridded):
    """In the form of Table 6, and not the hundreds of cells."""
    text = report.summary(gridded.folder, gridded.params)
    assert "mine: the best of each setup, and the views that reached it" in text
    assert text.count("TANGO") == 3


def test_cells_of_another_section_are_left_out_and_counted(gridded):
    """What was trained before params.yaml changed says nothing of what it says now."""
    gridded.params["experiments"]["svmt"]["epochs"] = 50
    study = collect(gridded.folder, gridded.params)
    assert not [cell for cell in study.cells if cell.section == "svmt"]
    assert any(
        "cells of experiment svmt, which were trained before its section was changed" in str(gap) for gap in study.gaps
    )


def test_ways_of_testing_are_told_apart_in_the_captions(empty):
    """Speaker-disjoint folds beside others: tables and maps say which."""
    section = grid_results.sections(["mfcc", "wavlm", "x-vector"])["pairs"]
    section["grid"]["folds.disjoint"] = ["group", "speaker"]
    empty.params["experiments"]["pairs"] = section
    grid_results.write(empty.folder, "pairs", section, ["mine"])
    (sheet,) = grids.sheets(collect(empty.folder, empty.params))
    captions = [table.caption for table in sheet.best] + [heat.caption for heat in sheet.heatmaps]
    assert len(set(captions)) == len(captions) == 2 + 2 * 4
    assert sum("disjoint speaker" in caption for caption in captions) == 5
