import json

import numpy as np
import pytest

from strata.pipeline.report.collect import collect
from strata.pipeline.report.comparisons import against_concat
from strata.trainers.evaluation.comparison import holm, paired
from tests.pipeline.report import grid_results


@pytest.fixture
def cells(gridded):
    """Cells of one corpus."""
    return collect(gridded.folder, gridded.params).cells


def folds(study, name: str, task: str, metric: str) -> list[float]:
    """A cell's scores as they stand on disk."""
    metrics = json.loads((study.folder / "results" / name / "metrics.json").read_text())
    return metrics["tasks"][task][metric]["folds"]


def test_every_pair_is_compared_fold_by_fold_on_every_task(gridded, cells):
    """Held against the statistics of the scores on disk: difference, effect size, p corrected for the whole table."""
    table = against_concat(cells, "mine")
    assert [(c.above, c.title) for c in table.columns[1:4]] == [("speaker", t) for t in ("difference", "d", "p")]
    views = [row[0].text.replace(" + ", "+") for row in table.rows]
    expected = []
    for pair in views:
        for task, kind in grid_results.TASKS.items():
            metric = "rmse" if kind == "regression" else "accuracy"
            scores = [folds(gridded, f"pairs/mine/{pair}/{fusion}", task, metric) for fusion in ("concat", "ot")]
            expected.append(paired(*scores, test_share=20 / 72))
    corrected = holm([result.p_value for result in expected])
    found = np.array([cell.value for row in table.rows for cell in row[1:]], dtype=float).reshape(-1, 3)
    wanted = [(r.difference, r.effect, p) for r, p in zip(expected, corrected, strict=True)]
    assert found == pytest.approx(np.array(wanted, dtype=float))
    assert [cell.best for row in table.rows for cell in row[3::3]] == [p < 0.05 for p in corrected]
    assert "Holm for the 24 comparisons" in table.notes[1]


def test_a_large_difference_is_bold_and_says_which_way(gridded):
    """TANGO minus concatenation, in percentage points."""
    path = gridded.folder / "results/pairs/mine/mfcc+wavlm/ot/metrics.json"
    metrics = json.loads(path.read_text())
    other = folds(gridded, "pairs/mine/mfcc+wavlm/concat", "speaker", "accuracy")
    metrics["tasks"]["speaker"]["accuracy"]["folds"] = [
        s + d for s, d in zip(other, (10, 10.1, 9.9, 10, 10), strict=True)
    ]
    path.write_text(json.dumps(metrics))
    table = against_concat(collect(gridded.folder, gridded.params).cells, "mine")
    row = next(row for row in table.rows if row[0].text == "mfcc + wavlm")
    assert (row[1].text, row[3].text, row[3].best) == ("+1,000.00", "0.003", True)


def test_scores_of_other_folds_are_left_out_and_counted(gridded):
    """They cannot be paired."""
    path = gridded.folder / "results/pairs/mine/mfcc+wavlm/ot/metrics.json"
    path.write_text(path.read_text().replace("f01d", "0the2"))
    table = against_concat(collect(gridded.folder, gridded.params).cells, "mine")
    assert len(table.rows) == 5
    assert "Left out: 1 pair whose" in table.notes[2]


def test_without_both_fusions_there_is_no_table(cells):
    """Nothing to hold against each other."""
    assert against_concat([cell for cell in cells if cell.setup != "TANGO"], "mine") is None
    assert against_concat([cell for cell in cells if cell.setup != "MVMT-concat"], "mine") is None
