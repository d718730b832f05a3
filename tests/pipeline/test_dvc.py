"""`dvc repro` as a user runs it: only what changed runs again."""

import subprocess
from pathlib import Path

import yaml

from pipeline.study import Study


def ran(output: str) -> set[str]:
    """Names of the stages that DVC ran."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")} - {"version"}


def test_repro_runs_what_changed_and_nothing_else(repository):
    """First all; then nothing; then new recordings, ten per view; then one edited experiment and the report."""
    repository.params["views"] = {"mfcc": {"family": "mfcc"}, "few": {"family": "mfcc", "num_coefficients": 5}}
    repository.params["experiments"]["two"]["views"] = ["mfcc", "few"]
    repository.params["eliminate"] = {"few": {"view": "few", "tasks": ["speaker"], "epochs": 2}}
    repository.write_params()
    everything = {"corpus", "transcribe", "extract@mfcc", "extract@few"}
    everything |= {"train@one", "train@two", "eliminate@few", "report"}
    assert ran(repository.process("dvc", "repro")) == everything
    assert ran(repository.process("dvc", "repro")) <= {"corpus"}  # dvc.yaml has learned which folder to watch
    assert ran(repository.process("dvc", "repro")) == set()

    repository.add(10)
    said = repository.process("dvc", "repro")
    assert ran(said) == everything
    assert "mfcc: 10 new of 34 utterances" in said
    assert "few: 10 new of 34 utterances" in said

    repository.params["experiments"]["two"]["epochs"] = 3
    repository.write_params()
    assert ran(repository.process("dvc", "repro")) == {"train@two", "report"}


def test_an_absent_store_that_dvc_knows_is_pulled_not_recomputed(shelved):
    """Nobody pays twice for a GPU."""
    store = Study(shelved.folder / "params.yaml").store("mfcc")
    store.rename(store.with_name("gone"))
    assert "run `dvc pull` first" in shelved.fails("extract", "mfcc")
    shelved.succeeds("store", "drop", str(store))
    assert "24 new of 24" in shelved.succeeds("extract", "mfcc")


def test_a_changed_view_is_refused_dropped_and_computed_anew(shelved):
    """The way on that the refusal names leads on, under DVC too."""
    shelved.params["views"]["mfcc"]["statistics"] = "mean"
    shelved.write_params()
    said = shelved.process("dvc", "repro", "extract", check=False)
    assert "strata store drop features/mfcc.zarr" in said
    shelved.process("strata", "store", "drop", "features/mfcc.zarr")
    assert "24 new of 24" in shelved.process("dvc", "repro", "extract")


def test_dvc_yaml_forgets_a_corpus_that_is_gone(repository):
    """Else every later `dvc repro` would fail for want of its folder."""
    repository.process("dvc", "repro", "corpus")
    watched = "../recordings"
    assert watched in (repository.folder / "dvc.yaml").read_text()
    moved = repository.recordings.rename(repository.recordings.with_name("moved"))
    repository.params["corpora"]["tones"]["root"] = str(moved)
    repository.write_params()
    repository.succeeds("corpus")
    assert watched not in (repository.folder / "dvc.yaml").read_text()
    repository.process("dvc", "repro", "corpus")


def test_init_makes_a_repository_and_keeps_what_is_there(repository):
    """A second `strata init` replaces nothing; an unknown recipe is answered with the known ones."""
    before = (repository.folder / "params.yaml").read_text()
    repository.succeeds("init", str(repository.folder), "--recipe", "demo")
    assert (repository.folder / "params.yaml").read_text() == before
    config = subprocess.run(["git", "status", "--short"], cwd=repository.folder, capture_output=True, text=True).stdout
    assert ".gitignore" in config
    assert "analytics = false" in (repository.folder / ".dvc/config").read_text()
    assert "unknown recipe 'tengo'; there are demo, prompts" in repository.fails("init", "x", "--recipe", "tengo")


def test_both_dvc_files_have_the_same_stages():
    """The repository's depends on its code, a study's on the installed version; nothing else differs."""
    from importlib.resources import files

    here = yaml.safe_load((Path(__file__).resolve().parents[2] / "dvc.yaml").read_text())["stages"]
    study = yaml.safe_load(files("pipeline").joinpath("study", "stages.yaml").read_text())["stages"]
    study.pop("version")
    code = ("pipeline/", "extractors", "store", "trainers")
    for stages in (here, study):
        for stage in stages.values():
            body = stage.get("do", stage)
            body["deps"] = [dep for dep in body["deps"] if not dep.startswith((*code, "strata.version"))]
    assert here == study


def test_what_decides_on_rows_and_texts_is_a_dependency():
    """Of every stage that reads utterances by their texts; and the report depends on all the tables that it shows."""
    stages = yaml.safe_load((Path(__file__).resolve().parents[2] / "dvc.yaml").read_text())["stages"]
    for name in ("extract", "train", "eliminate"):
        assert {"pipeline/keys.py", "pipeline/transcripts.py"} <= set(stages[name]["do"]["deps"]), name
    report = {"pipeline/transcripts.py", "data/corpus.failures.csv", "data/transcripts.failures.csv"}
    assert report <= set(stages["report"]["deps"])


def test_a_cpu_box_trains_from_pulled_stores_without_audio(shelved):
    """The two boxes of the README, with a directory as the remote: no recording and no model on the second."""
    shelved.process("git", "clone", "--quiet", ".", "../cpu")
    shelved.recordings.rename(shelved.recordings.with_name("on the GPU box"))
    shelved.folder = shelved.folder.with_name("cpu")
    shelved.params["experiments"]["two"] = {
        "views": ["mfcc", "few"],
        "fusion": "ot",
        "tasks": ["speaker"],
        "folds": {"k": 2},
        "epochs": 2,
    }
    shelved.params["eliminate"] = {"few": {"view": "few", "tasks": ["speaker"], "epochs": 2}}
    shelved.write_params()
    said = shelved.process("dvc", "repro", "--pull", "--allow-missing", "train", "report")
    assert ran(said) >= {"train@one", "train@two", "eliminate@few", "report"}
    assert not ran(said) & {"corpus", "transcribe", "extract@mfcc", "extract@few"}
    assert shelved.metrics("two")


def test_this_repository_carries_no_dvc_lock():
    """It would name stores that no fresh clone has; a study's own is its user's to commit."""
    here = Path(__file__).resolve().parents[2]
    tracked = subprocess.run(["git", "ls-files", "dvc.lock"], cwd=here, capture_output=True, text=True).stdout
    assert tracked == ""
