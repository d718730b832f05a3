"""Layer poolings are compared where nothing else differs."""

import json
import re

import pandas as pd

from strata.pipeline import report
from strata.pipeline.report import grids, poolings
from strata.pipeline.report.collect import collect
from strata.trainers import spec
from strata.trainers.search import grid
from tests.pipeline.report import wavcse_results


def found(study):
    """The study's experiments, read anew."""
    return collect(study.folder, study.params).experiments


def add(study, name: str, pooling: str, mean: float = 0.9, loss: float = 0.5, **fields) -> None:
    """A section of its own for one pooling."""
    section = wavcse_results.unified(pooling, **fields)
    study.params["experiments"][name] = section
    scores = dict.fromkeys(wavcse_results.TASKS, mean)
    wavcse_results.write_experiment(study.folder / "results" / name, section, scores, loss)


def test_the_table_of_poolings_has_the_papers_form(wavcse):
    """Ten rows in the paper's order and names, a column per task and their mean, the best of each in bold."""
    (rivals,) = poolings.compared(found(wavcse))
    table = poolings.comparison(rivals)
    assert table.caption == "Layer poolings: view wavlm, layers 0–2, 5"
    assert [row[0].text for row in table.rows] == [
        "Weighted Average", "Max", "Mean", "Mixed", "Gated", "Learned-Norm", "Log-Sum-Exp", "Smooth-Maximum", "Auto",
        "Self-Attention",
    ]  # fmt: skip
    assert [column.title for column in table.columns] == [
        "pooling", "utterances", "keyword", "speaker", "emotion", "mean",
    ]  # fmt: skip
    assert [cell.text for cell in table.rows[5][1:]] == [
        "101", "97.10 ± 1.00", "94.10 ± 1.00", "82.10 ± 1.00", "91.10 ± 1.00",
    ]  # fmt: skip
    assert [[cell.best for cell in row[2:]] for row in table.rows] == [[place == 5] * 4 for place in range(10)]
    assert [cell.text for cell in table.foot[0]] == ["chance", "", "25.00", "25.00", "25.00", ""]


def test_the_spread_is_over_seeds_where_there_are_several_and_the_caption_says_so(wavcse):
    """Seeds 0.01 apart, folds 0.002: 1.00 is that of the seeds; with one seed it is that of the folds, 0.32."""
    (rivals,) = poolings.compared(found(wavcse))
    assert "mean ± SD over 3 seeds, of means over 5 folds" in poolings.comparison(rivals).notes[0]
    del wavcse.params["experiments"]["wavcse"]
    for pooling in ("max", "mean"):
        add(wavcse, f"only-{pooling}", pooling, seeds=[0])
    (rivals,) = poolings.compared(found(wavcse))
    table = poolings.comparison(rivals)
    assert table.notes[0] == "Scores out of fold, mean ± SD over 5 folds."
    assert table.rows[0][2].text == "90.00 ± 0.32"


def test_poolings_of_sections_of_their_own_are_compared_too(empty):
    """As those of a grid are, where nothing but the pooling differs."""
    add(empty, "a", "self-attention", 0.91)
    add(empty, "b", "weighted", 0.90)
    (rivals,) = poolings.compared(found(empty))
    assert [member.name for member in rivals.members] == ["b", "a"]


def test_a_comparison_says_what_its_rows_share(empty):
    """What other unified models of the study have otherwise is told in the title, the rest below; a model that differs
    in more than its pooling has no row."""
    for pooling in ("max", "mean"):
        add(empty, f"only-{pooling}", pooling, l2=0.003, embedding=101)
    add(empty, "balanced", "gated", l2=0.003, embedding=101, batches="balanced")
    (rivals,) = poolings.compared(found(empty))
    table = poolings.comparison(rivals)
    assert table.caption == "Layer poolings: view wavlm, layers 0–2, 5, batches shuffled"
    assert [row[0].text for row in table.rows] == ["Max", "Mean"]
    assert table.notes[1] == "All with l2 0.003, corpora demo, embedding 101, seeds 0, 1, 2."


def test_the_terminal_tells_models_of_one_name_apart(empty):
    """By the experiment, in brackets behind the models that are called alike; on the page it stands below all."""
    for name, batches in (("a", "shuffled"), ("b", "balanced")):
        add(empty, name, "weighted", batches=batches)
    section = {"views": ["wavlm"], "encoder": "linear", "tasks": list(wavcse_results.TASKS)}
    empty.params["experiments"]["probe"] = section
    scores = dict.fromkeys(wavcse_results.TASKS, 0.8)
    wavcse_results.write_experiment(empty.folder / "results" / "probe", section, scores, 0.7)
    text = report.summary(empty.folder, empty.params)
    against = text.split("The unified embedding against plain models")[1]
    assert re.findall(r"^(?:SV|wav).*?\)", against, re.MULTILINE) == [
        "wavCSE, Weighted Average (a)", "wavCSE, Weighted Average (b)",
    ]  # fmt: skip


def test_what_differs_in_more_than_its_pooling_is_not_compared(empty):
    """Neither with other layers, nor alone; two comparisons name what tells them apart."""
    add(empty, "a", "max")
    add(empty, "b", "mean", embedding=101)
    assert poolings.compared(found(empty)) == []
    add(empty, "c", "mean")
    add(empty, "d", "max", embedding=101)
    assert [rivals.title for rivals in poolings.compared(found(empty))] == [
        "view wavlm, layers 0–2, 5, embedding 2000",
        "view wavlm, layers 0–2, 5, embedding 101",
    ]


def test_the_unified_model_stands_beside_plain_ones_by_its_validation_loss(wavcse):
    """The pooling that stands for it is that of the lowest loss, though another scores best on test."""
    path = wavcse.folder / "results" / "wavcse"
    curves = next(path.glob("*gated*")) / "curves.parquet"
    pd.read_parquet(curves).assign(valid_loss=0.01).to_parquet(curves)
    experiments = found(wavcse)
    table = poolings.against_baselines(poolings.compared(experiments), experiments)
    assert [(row[0].text, row[0].small) for row in table.rows] == [
        ("SVST, linear", "probe-mfcc"), ("SVMT, linear", "probe"), ("wavCSE, Gated", "wavcse/gated"),
    ]  # fmt: skip
    assert [cell.text for cell in table.rows[0][3:]] == ["101", "80.00 ± 0.32", "–", "–", "–"]
    assert "The pooling of wavCSE is the one of the lowest validation loss." in table.notes


def test_without_curves_the_choice_by_test_scores_is_owned_up_to(wavcse):
    """The table says that it is optimistic."""
    for curves in (wavcse.folder / "results" / "wavcse").rglob("curves.parquet"):
        curves.unlink()
    experiments = found(wavcse)
    table = poolings.against_baselines(poolings.compared(experiments), experiments)
    assert table.rows[-1][0].text == "wavCSE, Learned-Norm"
    assert any("an optimistic choice" in note for note in table.notes)


def test_there_is_no_such_table_without_plain_models(wavcse):
    """Nor without unified ones."""
    for name in ("probe", "probe-mfcc"):
        del wavcse.params["experiments"][name]
    experiments = found(wavcse)
    assert poolings.against_baselines(poolings.compared(experiments), experiments) is None
    assert poolings.tables([e for e in experiments if not poolings.is_unified(e)]) == []


def test_tasks_of_unlike_measures_have_no_mean(wavcse):
    """An accuracy and an error in years cannot be averaged."""
    for path in (wavcse.folder / "results" / "wavcse").rglob("metrics.json"):
        metrics = json.loads(path.read_text())
        metrics["primary"]["emotion"] = "rmse"
        metrics["tasks"]["emotion"] = {"rmse": metrics["tasks"]["emotion"]["accuracy"]}
        path.write_text(json.dumps(metrics))
    (rivals,) = poolings.compared(found(wavcse))
    assert [column.title for column in poolings.comparison(rivals).columns] == [
        "pooling", "utterances", "keyword", "speaker", "emotion",
    ]  # fmt: skip


def test_the_same_configuration_under_two_names_is_one_row(wavcse):
    """The section whose final model is kept stands beside the grid's cell: the grid's is shown."""
    add(wavcse, "kept", "learned-norm")
    (rivals,) = poolings.compared(found(wavcse))
    assert [member.name for member in rivals.members][5] == "wavcse/learned-norm"
    assert [other.name for other in rivals.others] == ["kept"]
    assert len(poolings.comparison(rivals).rows) == 10


def test_a_grid_over_something_else_keeps_its_own_table(wavcse):
    """One of its cells is the same as a pooling's: it is shown there nevertheless, a row per variant."""
    section = wavcse_results.unified(None, grid={"balancing": ["equal", "random"]})
    wavcse.params["experiments"]["balancing"] = section
    for cell, config in grid.cells(spec.Experiment.model_validate(section), ["demo"]).items():
        where = wavcse.folder / "results" / "balancing" / cell
        scores = dict.fromkeys(wavcse_results.TASKS, 0.7)
        wavcse_results.write_experiment(where, config.model_dump(mode="json"), scores, 0.5)
    study = collect(wavcse.folder, wavcse.params)
    assert [other.section for other in poolings.compared(study.experiments)[0].others] == ["balancing"]
    (sheet,) = grids.sheets(study)
    assert [row[0].text for row in sheet.tables[0].rows] == ["balancing equal", "balancing random"]
    assert "wavCSE, weighted: view wavlm (balancing)" in sheet.tables[0].caption
    assert sheet.tables[0].notes[0].startswith("2 cells; ")


def test_cells_shown_as_poolings_are_not_shown_as_a_grid_again(wavcse):
    """One place for one number; details of each cell are still there."""
    study = collect(wavcse.folder, wavcse.params)
    assert len(study.cells) == 10
    assert grids.sheets(study) == []
    page = report.build(wavcse.folder, wavcse.params).read_text()
    assert 'data-cell="wavcse/learned-norm"' in page
    assert '"wavcse/learned-norm":{' in page
