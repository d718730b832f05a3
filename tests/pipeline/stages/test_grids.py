import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strata.pipeline.stages import unchanged
from strata.pipeline.study.folder import Study
from tests.pipeline import forks

PAIRS = ["a+b", "a+c", "b+c"]


@pytest.fixture(scope="module")
def shared(new_study, silence, tmp_path_factory):
    """A study of three views and a grid of all pairs, concatenated and by transport. To be copied."""
    study = new_study(tmp_path_factory.mktemp("grids") / "study", silence).add(24)
    study.params["views"] = {
        name: {"family": "mfcc", "num_coefficients": n} for name, n in zip("abc", (20, 13, 8), strict=True)
    }
    study.params["eliminate"] = {}
    study.params["experiments"] = {
        "pairs": {
            "views": ["a", "b", "c"],
            "tasks": ["speaker", "pitch"],
            "folds": {"k": 2, "stratify": "speaker"},
            "epochs": 2,
            "final": False,
            "grid": {"corpora": "each", "views": "pairs", "fusion": ["concat", "ot"]},
        }
    }
    study.write_params()
    study.succeeds("corpus")
    study.succeeds("extract")
    return study


@pytest.fixture
def grid(shared, tmp_path, capsys):
    """That study, to do with as one likes."""
    return shared.copied(tmp_path, capsys)


def _cells(study) -> dict[str, float]:
    """When each cell's results were written, by the cell's name."""
    root = study.folder / "results" / "pairs"
    done = [file.parent for file in root.rglob("metrics.json")]  # itself written anew with each manifest
    return {cell.relative_to(root).as_posix(): (cell / "predictions.parquet").stat().st_mtime_ns for cell in done}


def test_every_cell_is_trained_once_and_a_new_view_trains_its_own_pairs(grid):
    """Cells that follow from the same as before are left as they are, whatever else the grid holds."""
    grid.params["experiments"]["pairs"]["views"] = ["a", "b"]
    grid.write_params()
    assert "pairs: 2 of 2 cells to train" in grid.succeeds("train")
    before = _cells(grid)
    assert set(before) == {"tones/a+b/concat", "tones/a+b/ot"}
    assert "pairs: 2 cells up to date" in grid.succeeds("train", "pairs", "pairs")
    grid.params["experiments"]["pairs"]["views"] = ["a", "b", "c"]
    grid.write_params()
    assert "pairs: 4 of 6 cells to train" in grid.succeeds("train")
    after = _cells(grid)
    assert set(after) == {f"tones/{pair}/{fusion}" for pair in PAIRS for fusion in ("concat", "ot")}
    assert before.items() <= after.items()


def test_a_cell_holds_what_an_experiment_of_its_own_would(grid):
    """The same scores to the bit, with what the report needs to place it; and no model where none was asked for."""
    grid.params["experiments"]["alone"] = {
        "views": ["b", "c"],
        "fusion": "ot",
        "tasks": ["speaker", "pitch"],
        "folds": {"k": 2, "stratify": "speaker"},
        "epochs": 2,
    }
    grid.write_params()
    grid.succeeds("train")
    cell, alone = grid.metrics("pairs/tones/b+c/ot"), grid.metrics("alone")
    assert cell["tasks"] == alone["tasks"]
    assert cell["grid"] == {"corpora": "tones", "views": "b+c", "fusion": "ot"}
    assert (cell["experiment"], cell["corpora"], cell["setup"]) == ("pairs/tones/b+c/ot", ["tones"], "TANGO")
    assert cell["folds"] == alone["folds"]
    assert [sum(sizes.values()) for sizes in cell["folds"]["sizes"]] == [24, 24]
    assert (grid.folder / "results" / "alone" / "model").exists()
    assert not (grid.folder / "results" / "pairs" / "tones" / "b+c" / "ot" / "model").exists()


def test_a_cell_sees_its_own_corpus_only(grid):
    """One corpus's cells stay as they are when another corpus comes; the utterances of each are its own."""
    grid.params["experiments"]["pairs"]["grid"]["fusion"] = ["concat"]
    grid.write_params()
    grid.succeeds("train")
    before = _cells(grid)
    grid.params["corpora"]["again"] = {"adapter": "folder", "root": "recordings"}
    grid.write_params()
    grid.succeeds("corpus")
    assert "pairs: 3 of 6 cells to train" in grid.succeeds("train")
    assert before.items() <= _cells(grid).items()
    assert grid.metrics("pairs/again/a+b/concat")["num_utterances"] == 24


def test_a_killed_grid_goes_on_and_loses_one_cell_at_most(grid, forked, tmp_path):
    """SIGKILL in the middle; what was told as trained is not trained again, and nothing else is lost.

    What was mapped by it is gone after the next run, and so is all that it had in the temporary folder and /dev/shm.
    """
    grid.params["experiments"]["pairs"]["epochs"] = 15
    grid.write_params()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = dict(os.environ) | {"LOKY_MAX_CPU_COUNT": "2", "TMPDIR": str(temporary)}  # two side by side
    process = forked.Process(target=forks.run, args=(grid.folder, environment, "train"))
    process.start()
    deadline = time.monotonic() + 600  # cores may be busy
    while len(_cells(grid)) < 2 and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    kept = _cells(grid)
    assert 2 <= len(kept) < 6
    assert list((grid.folder / ".strata" / "gathered").rglob("*.values"))
    assert f"pairs: {6 - len(kept)} of 6 cells to train" in grid.succeeds("train")
    assert kept.items() <= _cells(grid).items()
    assert not [path for path in (grid.folder / ".strata" / "gathered").rglob("*") if path.is_file()]
    assert not list(temporary.iterdir())
    assert not [path for path in Path("/dev/shm").glob("*") if str(process.pid) in path.name.split("-")]
    assert "pairs: 6 cells up to date" in grid.succeeds("train")


def test_nothing_to_do_is_told_without_reading_a_table(grid):
    """Once seen to be up to date, by files alone; whatever changes is looked at in full, and trained if it counts."""
    grid.params["experiments"] = {"one": {"views": ["a"], "tasks": ["pitch"], "folds": {"k": 2}, "epochs": 1}}
    grid.write_params()
    code = (
        "import sys; from strata.pipeline.cli import main; main(['train'])\nprint({'pandas', 'torch'} & {*sys.modules})"
    )

    def imported() -> str:
        command = [sys.executable, "-c", code]
        found = subprocess.run(command, cwd=grid.folder, env=grid.environment, capture_output=True, text=True)
        assert "one: up to date" in found.stderr
        return found.stdout.strip()

    grid.succeeds("train")
    assert "pandas" in imported()
    assert imported() == "set()"
    (grid.folder / "params.yaml").touch()
    assert imported() == "set()"
    (grid.folder / "features" / "a.zarr" / "zarr.json").touch()
    assert "pandas" in imported()
    assert imported() == "set()"
    (grid.folder / "results" / "one" / "predictions.parquet").unlink()
    assert "up to date" not in grid.succeeds("train")
    grid.params["experiments"]["one"]["epochs"] = 2
    grid.write_params()
    assert "up to date" not in grid.succeeds("train")
    assert "one: up to date" in grid.succeeds("train")


def test_all_views_of_a_grid_count(grid):
    """Also those that its section names in no other place; and what dvc.lock lists; a dangling link is for later."""
    pairs = grid.params["experiments"]["pairs"]
    grid.params["experiments"] = {"some": pairs | {"views": ["a", "b"], "fusion": "concat"}}
    grid.params["experiments"]["some"]["grid"] = {"views": [["a", "b"], ["a", "c"]]}
    grid.write_params()
    study = Study(grid.folder / "params.yaml")
    found = [unchanged.inputs(study, "some")]
    for file in ("features/c.zarr/zarr.json", "features/a.zarr/zarr.json"):
        (grid.folder / file).touch()
        found.append(unchanged.inputs(study, "some"))
    (grid.folder / "dvc.lock").write_text("schema: '2.0'\n")
    found.append(unchanged.inputs(study, "some"))
    assert len({*found}) == 4
    assert unchanged.inputs(study, "some") == found[-1]
    shutil.rmtree(grid.folder / "features/c.zarr")
    (grid.folder / "features/c.zarr").symlink_to("nowhere")
    assert unchanged.inputs(study, "some") is None


def test_a_killed_run_loses_the_models_that_were_in_training(grid, forked, monkeypatch):
    """SIGKILL in the middle of a cell: its finished models are not trained again, and its results are the same."""
    from strata.trainers.training import jobs

    how = {"views": ["a"], "tasks": ["speaker", "pitch"], "folds": {"k": 3}, "seeds": [0, 1], "epochs": 60}
    grid.params["experiments"] = {"whole": how, "ended": how}
    grid.params["train"] = {"workers": 1}
    grid.write_params()
    grid.succeeds("train", "whole")
    results = grid.folder / "results"
    kept, written = results / "ended" / "trained.tmp", results / "ended" / "metrics.json"
    process = forked.Process(target=forks.run, args=(grid.folder, dict(os.environ), "train", "ended"))
    process.start()
    while len(list(kept.glob("*.safetensors"))) < 2 and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    done = len(list(kept.glob("*.safetensors")))
    assert 2 <= done < 7
    assert not written.exists()
    trained, real = [], jobs.train
    monkeypatch.setattr(jobs, "train", lambda job, watch: trained.append(job) or real(job, watch))
    grid.succeeds("train", "ended")
    assert len(trained) == 7 - done
    whole, ended = grid.metrics("whole"), grid.metrics("ended")
    assert whole["tasks"] == ended["tasks"]
    for file in ("predictions.parquet", "curves.parquet", "model/model.safetensors"):
        assert (results / "whole" / file).read_bytes() == (results / "ended" / file).read_bytes()
    assert not kept.exists()


def test_answers_are_kept_until_the_cell_is_written(grid, monkeypatch):
    """A full disk costs no training: told once before the last step. What a kill after that leaves is removed."""
    from strata.pipeline.stages import cells
    from strata.trainers.evaluation import kept as kept_models
    from strata.trainers.training import jobs

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "no space left on device")

    how = {"views": ["a"], "tasks": ["pitch"], "folds": {"k": 2}, "epochs": 1, "final": False}
    grid.params["experiments"], grid.params["train"] = {"one": how}, {"workers": 1}
    grid.write_params()
    kept = grid.folder / "results" / "one" / "trained.tmp"
    with monkeypatch.context() as patch:
        patch.setattr(kept_models, "save_file", full)
        assert grid.succeeds("train").count("cannot be kept (no space left on device)") == 1  # of two models
    (grid.folder / "results" / "one" / "metrics.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(cells, "write_metrics", full)
        grid.fails("train")
    assert len(list(kept.iterdir())) == 2
    trained, real = [], jobs.train
    monkeypatch.setattr(jobs, "train", lambda job, watch: trained.append(job) or real(job, watch))
    grid.succeeds("train")
    assert trained == []
    assert not kept.exists()
    kept.mkdir()
    (kept / "0.safetensors").touch()
    assert "one: up to date" in grid.succeeds("train")
    assert not kept.exists()


def test_a_cell_that_cannot_be_trained_leaves_the_others_done(grid):
    """One line tells of all cells with the same trouble at once."""
    grid.params["views"]["d"] = {"family": "mfcc"}
    grid.params["experiments"]["pairs"]["views"].append("d")
    grid.write_params()
    line = grid.fails("train")
    assert line.count("experiment pairs/tones/a+d/concat and 5 more: ") == 1
    assert len(_cells(grid)) == 6


def test_experiments_are_compared_on_their_folds(grid):
    """A table, or JSON; a grid's name stands for its cells; other folds, unknown names and one alone are refused."""
    grid.params["experiments"]["other"] = {"views": ["a"], "tasks": ["speaker"], "folds": {"k": 3}, "epochs": 1}
    grid.write_params()
    grid.succeeds("train")
    shown = grid.succeeds("compare", "pairs/tones/a+b/concat", "pairs/tones/a+b/ot")
    assert "Compared with pairs/tones/a+b/concat" in shown
    assert "corrected for the 2 comparisons" in shown
    assert "concat (encoder cnn), on the same folds" in shown
    assert re.search(r"a\+b/ot +cnn +speaker +\d+ +accuracy", shown)
    status, out, err = grid.strata("compare", "pairs/tones/a+b/concat", "pairs", "other", "--json")
    assert status == 0
    found = json.loads(out)["comparisons"]
    assert len(found) == 5 * 2
    assert all(row["p_holm"] >= row["p_value"] for row in found)
    assert "left out: pairs/tones/a+b/concat and other were not tested on the same folds" in err
    assert "not tested on the same folds" in grid.fails("compare", "other", "pairs/tones/a+b/ot")
    assert "has no experiments.nothing; it has pairs, other" in grid.fails("compare", "nothing", "other")
    assert "has no cell 'pairs/tones/a+z'; it has pairs/tones/a+b/concat" in grid.fails("compare", "pairs/tones/a+z")
    grid.params["experiments"]["other"]["epochs"] = 2
    grid.write_params()
    assert "other was trained from another section of params.yaml" in grid.fails("compare", "other", "pairs")
    assert "two experiments or more" in grid.fails("compare", "other", "other")


def test_a_second_run_on_the_same_results_is_refused(grid):
    """While one runs; a lock that is left over is in nobody's way."""
    folder = grid.folder / "results" / "pairs"
    folder.mkdir(parents=True)
    with open(folder / "train.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "results/pairs/train is being written by another process; wait for it or stop it" in grid.fails("train")
    assert "pairs: 6 of 6 cells to train" in grid.succeeds("train")


def test_processes_are_as_many_as_may_be_used_and_have_a_model(grid, monkeypatch):
    """Of few cores those that are left to the command; of many those for which there is something to train."""
    from strata.trainers.evaluation import experiment

    asked, run_all = [], experiment.run_all

    def in_this_process(plans, progress, workers):
        asked.append(getattr(workers, "count", 1))
        return run_all(plans, progress, 1)

    monkeypatch.setattr(experiment, "run_all", in_this_process)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    grid.succeeds("train")
    monkeypatch.setattr("joblib.cpu_count", lambda: 64)
    grid.params["experiments"] = {"single": {"views": ["a"], "tasks": ["pitch"], "folds": {"k": 2}, "epochs": 1}}
    grid.write_params()
    grid.succeeds("train")
    assert asked == [1, 3]  # two folds and the final model
