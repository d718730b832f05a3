import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from strata.pipeline.report import drawings
from strata.pipeline.report.collect import collect
from tests.pipeline.report import grid_results


def text_of(cells: Sequence, gaps: list | None = None) -> str:
    """The JSON of these cells."""
    found = drawings.Drawings([] if gaps is None else gaps)
    found.add_cells(cells)
    return found.text


@pytest.fixture(scope="module")
def text(shared_grids) -> str:
    """The JSON of all cells."""
    return text_of(collect(shared_grids.folder, shared_grids.params).cells)


@pytest.fixture
def embedded(text) -> dict:
    """It, read back."""
    return json.loads(text)


def test_every_cell_is_there_with_all_its_scores(embedded):
    """Metric by metric, fold by fold; confusions and curves for each."""
    assert len(embedded["cells"]) == 32
    cell = embedded["cells"]["svst/mine/mfcc"]
    assert cell["setup"] == "SVST"
    assert [row[:3] for row in cell["scores"]][:2] == [
        ["speaker", "101", "accuracy (%) ↑"], ["speaker", "101", "UAR (%) ↑"],
    ]  # fmt: skip
    assert "encoder mlp" in cell["facts"]
    assert cell["notes"][0].startswith("UAR: mean over the classes present")
    assert cell["scores"][0][5].count(" · ") == 4
    assert [task["name"] for task in cell["tasks"]] == list(grid_results.TASKS)
    assert [group["name"] for group in cell["curves"]] == list(grid_results.TASKS)


def test_confusions_are_those_of_the_predictions(shared_grids, embedded):
    """Sparse triples of true class, predicted class and count, classes by number in a list that cells share."""
    task = embedded["cells"]["pairs/mine/mfcc+x-vector/ot"]["tasks"][1]
    classes = embedded["classes"][task["classes"]]
    frame = pd.read_parquet(shared_grids.folder / "results/pairs/mine/mfcc+x-vector/ot/predictions.parquet")
    found = {(classes[i], classes[j]): count for i, j, count in np.reshape(task["confusion"], (-1, 3))}
    assert found == frame.groupby(["emotion.true", "emotion.predicted"]).size().to_dict()
    assert len(embedded["classes"]) == 3


def test_points_are_pairs_of_the_predictions_and_not_too_many(shared_grids, monkeypatch):
    """A sample where there are more than the picture takes, and the number of all."""
    monkeypatch.setattr(drawings, "CELL", drawings.Grain(points=17, epochs=80))
    content = json.loads(text_of(collect(shared_grids.folder, shared_grids.params).cells[:1]))
    task = content["cells"]["svst/mine/mfcc"]["tasks"][3]
    assert (len(task["points"]), task["count"]) == (34, 101)
    frame = pd.read_parquet(shared_grids.folder / "results/svst/mine/mfcc/predictions.parquet")
    pairs = np.reshape(task["points"], (-1, 2))
    every = frame[["age.true", "age.predicted"]].to_numpy()
    assert np.abs(every[None] - pairs[:, None]).max(axis=2).min(axis=1).max() < 0.1


def test_long_curves_keep_their_best_epoch(gridded):
    """Every so many epochs are drawn; the lowest validation loss, and the last one, always."""
    folder = gridded.folder / "results" / "svst" / "mine" / "mfcc"
    epochs = np.arange(1, 1002)
    valid = np.abs(epochs - 333) / 1000 + 0.123456
    frame = pd.DataFrame({"fold": 0, "task_group": "age", "epoch": epochs, "train_loss": np.nan, "valid_loss": valid})
    frame.to_parquet(folder / "curves.parquet")
    content = json.loads(text_of(collect(gridded.folder, gridded.params).cells[:1]))
    (run,) = content["cells"]["svst/mine/mfcc"]["curves"][0]["runs"]
    assert (run["epoch"][run["best"]], run["valid"][run["best"]], run["epoch"][-1]) == (333, 0.1235, 1001)
    assert len(run["epoch"]) <= drawings.CELL.epochs + 2
    assert set(run["train"]) == {None}


def test_no_label_ends_the_script(text, embedded):
    """What would be markup is written as escapes, and read back as it was."""
    assert not set("<>&\u2028\u2029") & set(text)
    assert any(grid_results.BREAKING in classes for classes in embedded["classes"])


def test_a_cell_whose_tables_cannot_be_read_costs_its_own_details(gridded):
    """It is named once, however many there are."""
    for view in ("mfcc", "wavlm"):
        (gridded.folder / "results" / "svst" / "mine" / view / "curves.parquet").write_text("nonsense")
    gaps = []
    content = json.loads(text_of(collect(gridded.folder, gridded.params).cells, gaps))
    assert len(content["cells"]) == 30
    (gap,) = gaps
    assert str(gap).startswith("the details of cell svst/mine/mfcc (")
    assert str(gap).endswith("and of 1 more")


def test_a_study_of_hundreds_of_cells_stays_small(text, embedded):
    """Below fifty kilobytes a cell: 162 of them are a page of a few megabytes."""
    assert len(text) / len(embedded["cells"]) < 20_000


def test_several_seeds_are_one_count_per_utterance(gridded):
    """Three predictions of an utterance are thirds of it: the page counts utterances, and writes whole ones without a
    point."""
    cell = next(c for c in collect(gridded.folder, gridded.params).cells if c.name == "svst/mine/mfcc")
    path = cell.folder / "predictions.parquet"
    table = pd.read_parquet(path)
    pd.concat([table.assign(seed=seed) for seed in range(3)], ignore_index=True).to_parquet(path)
    task = json.loads(text_of([cell]))["cells"][cell.name]["tasks"][0]
    counts = task["confusion"][2::3]
    assert sum(counts) == len(table)
    assert all(isinstance(count, int) for count in counts)


def test_points_of_several_seeds_are_predictions_and_of_one_seed_utterances(gridded, embedded):
    """The caption says what a point is."""
    assert embedded["cells"]["svst/mine/mfcc"]["tasks"][3]["each"] == "utterance"
    cell = next(c for c in collect(gridded.folder, gridded.params).cells if c.name == "svst/mine/mfcc")
    path = cell.folder / "predictions.parquet"
    table = pd.read_parquet(path)
    pd.concat([table.assign(seed=seed) for seed in range(2)], ignore_index=True).to_parquet(path)
    task = json.loads(text_of([cell]))["cells"][cell.name]["tasks"][3]
    assert (task["each"], task["count"]) == ("prediction", 2 * len(table))


def test_an_experiment_is_drawn_finer_than_a_cell(full):
    """Its picture takes all of its points and epochs; what cells share with it, such as lists of classes, is one."""
    found = drawings.Drawings([])
    experiments = collect(full.folder, full.params).alone
    for experiment in experiments:
        assert found.add_experiment(experiment.name, experiment) == (True, [])
    content = json.loads(found.text)
    assert len(content["classes"]) == 2
    assert len(content["experiments"]["tango"]["tasks"][2]["points"]) == 2 * 101
    assert drawings.EXPERIMENT.points > drawings.CELL.points
    assert drawings.EXPERIMENT.epochs > drawings.CELL.epochs
