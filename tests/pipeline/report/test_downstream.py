import pytest

from strata.pipeline.report import downstream
from strata.pipeline.report.collect import collect


def table(study):
    """Its table of downstream tasks."""
    found = collect(study.folder, study.params)
    return downstream.table(found.downstream, found.skipped, study.params["downstream"])


def test_the_table_has_a_row_for_every_task_in_the_order_of_params(wavcse):
    """Each with its measure and direction, score, chance and data; what was skipped says why in its own place."""
    rows = [[cell.text for cell in row] for row in table(wavcse).rows]
    assert rows == [
        ["words", "keyword", "unified", "linear", "accuracy (%) ↑", "93.00 ± 1.00", "25.00", "101", "demo"],
        ["words-other", "keyword", "other", "linear", "accuracy (%) ↑", "24.00 ± 1.00", "25.00", "101", "demo"],
        ["dialects", "dialect", "unified", "–", "–", "skipped", "–", "–", "timit"],
        ["voices", "speaker", "unified", "PLDA", "EER (%) ↓", "14.00 ± 1.83", "50.00", "97", "demo"],
    ]
    assert table(wavcse).rows[2][5].small == "no corpus timit"
    assert table(wavcse).rows[3][7].small == "1,234 pairs"


def test_the_best_embedding_of_a_task_is_marked_and_what_is_no_better_than_chance(wavcse):
    """Of two embeddings on one task one wins; a task of a single one has no winner."""
    scores = [row[5] for row in table(wavcse).rows]
    assert [cell.best for cell in scores] == [True, False, False, False]
    assert [cell.mark for cell in scores] == ["", "°", "", ""]


def test_scores_of_other_corpora_are_not_held_against_each_other(wavcse):
    """The same task elsewhere is another task."""
    path = wavcse.folder / "results" / "downstream" / "words-other" / "metrics.json"
    path.write_text(path.read_text().replace('"corpora": ["demo"]', '"corpora": ["mine"]'))
    assert not any(row[5].best for row in table(wavcse).rows)


def test_what_was_not_run_or_cannot_be_read_is_named_with_its_command(wavcse):
    """A section without results, also for want of its embedding, and one whose results are broken; the others stand."""
    wavcse.params["downstream"]["my ages"] = {"views": ["unified"], "tasks": ["age"]}
    assert str(collect(wavcse.folder, wavcse.params).gaps[-1]).endswith("my ages: run `strata embed unified`")
    (wavcse.folder / "embeddings/unified.zarr").mkdir(parents=True)
    (wavcse.folder / "results" / "downstream" / "words" / "metrics.json").write_text("[]")
    gaps = [str(gap) for gap in collect(wavcse.folder, wavcse.params).gaps if "downstream task" in gap.what]
    assert gaps[0].startswith("downstream task words (results/downstream/words/metrics.json cannot be read")
    assert gaps[0].endswith("run `strata downstream words`")
    assert gaps[1] == "downstream task my ages: run `strata downstream 'my ages'`"
    assert [row[0].text for row in table(wavcse).rows] == ["words-other", "dialects", "voices"]


def test_results_win_over_an_older_skip(wavcse):
    """Where a corpus has come, what was skipped once is not skipped any more."""
    wavcse.write("downstream/words/skipped.json", {"name": "words", "reason": "no corpus demo"})
    assert table(wavcse).rows[0][5].text == "93.00 ± 1.00"


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_skip_is_a_gap(wavcse, content):
    """It is run again by the same command."""
    (wavcse.folder / "results" / "downstream" / "dialects" / "skipped.json").write_text(content)
    study = collect(wavcse.folder, wavcse.params)
    assert not study.skipped
    assert "strata downstream dialects" in str(study.gaps[-1])


def test_a_study_without_downstream_tasks_has_no_table(empty):
    """Nor a section of the page."""
    assert table_of_nothing(empty) is None


def table_of_nothing(study):
    """Of a study that has no such section at all."""
    found = collect(study.folder, study.params)
    return downstream.table(found.downstream, found.skipped, found.params["downstream"])
