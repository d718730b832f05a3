"""`dvc repro` as a user runs it: only what changed runs again."""

import copy
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd

from strata.pipeline.study import dvcfile, yaml12
from strata.pipeline.study.folder import Study

ALWAYS = {"version", "corpus"}
"""Stages that look for themselves, at every `dvc repro`."""


def ran(output: str) -> set[str]:
    """Names of the stages that DVC ran because something had changed."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")} - ALWAYS


def test_repro_runs_what_changed_and_nothing_else(repository):
    """First all; then nothing; then new recordings, ten per view; then one edited experiment and the report."""
    repository.params["views"] = {"mfcc": {"family": "mfcc"}, "few": {"family": "mfcc", "num_coefficients": 5}}
    repository.params["experiments"]["two"]["views"] = ["mfcc", "few"]
    repository.params["eliminate"] = {"few": {"view": "few", "tasks": ["speaker"], "epochs": 2}}
    repository.write_params()
    everything = {"transcribe", "extract@mfcc", "extract@few"}
    everything |= {"train@one", "train@two", "eliminate@few", "report"}
    assert ran(repository.process("dvc", "repro")) == everything
    said = repository.process("dvc", "repro")
    assert ran(said) == set()
    assert "24 utterances, up to date" in said  # the corpus has been looked at, and nothing follows

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
    study = Study(shelved.folder / "params.yaml")
    store = study.store("mfcc")
    assert dvcfile.is_as_listed(study, "mfcc")
    store.rename(store.with_name("gone"))
    assert "run `dvc pull` first" in shelved.fails("extract", "mfcc")
    shelved.succeeds("store", "drop", str(store))
    assert "24 new of 24" in shelved.succeeds("extract", "mfcc")


def test_a_changed_view_is_refused_dropped_and_computed_anew(shelved):
    """The way on that the refusal names leads on, under DVC too. The commands are started as users start them."""
    shelved.served = False
    shelved.params["views"]["mfcc"]["statistics"] = "mean"
    shelved.write_params()
    said = shelved.process("dvc", "repro", "extract", check=False)
    assert "strata store drop features/mfcc.zarr" in said
    shelved.process("strata", "store", "drop", "features/mfcc.zarr")
    assert "24 new of 24" in shelved.process("dvc", "repro", "extract")


def test_whatever_lies_beside_the_recordings_stops_nothing(repository):
    """No folder of recordings is handed to DVC, which stumbles over each of these; and a `${` is only a name."""
    repository.recordings = repository.recordings.rename(repository.recordings.with_name("rec${x}"))
    (repository.recordings / "gone.wav").symlink_to("nowhere")
    (repository.recordings / ".#metadata.csv").symlink_to("user@host.1:1")
    Path(os.fsdecode(bytes(repository.recordings) + b"/caf\xe9.wav")).write_bytes(b"RIFF")
    os.mkfifo(repository.recordings / "pipe.wav")
    repository.params["corpora"]["tones"]["root"] = "../rec${x}"
    repository.write_params()
    before = (repository.folder / "dvc.yaml").read_text()
    assert ran(repository.process("dvc", "repro", "extract@mfcc")) == {"transcribe", "extract@mfcc"}
    assert ran(repository.process("dvc", "repro", "extract@mfcc")) == set()
    assert (repository.folder / "dvc.yaml").read_text() == before
    repository.add(2)
    assert "mfcc: 2 new of 26 utterances" in repository.process("dvc", "repro", "extract@mfcc")


def test_a_moved_corpus_folder_is_named_by_its_new_place(repository):
    """Until params.yaml says where, what is known of it stays; nothing but params.yaml has to be edited."""
    repository.process("dvc", "repro", "extract@mfcc")
    moved = repository.recordings.rename(repository.recordings.with_name("moved"))
    said = repository.process("dvc", "repro", "extract@mfcc")
    assert "tones: not on this machine (no such folder: ../recordings; `root` is relative to" in said
    assert ran(said) == set()
    repository.params["corpora"]["tones"]["root"] = str(moved)
    repository.write_params()
    assert "mfcc: up to date" in repository.process("dvc", "repro", "extract@mfcc")


def test_a_lost_manifest_is_pulled(shelved):
    """Where the recordings are not: neither is it made empty nor does anything else run."""
    data = shelved.folder / "data"
    before = (data / "manifest.parquet").read_bytes()
    shelved.recordings.rename(shelved.recordings.with_name("away"))
    for lost in ("manifest.parquet", "corpus.failures.csv"):
        (data / lost).unlink()
    assert ran(shelved.process("dvc", "repro", "--pull", "--allow-missing", "extract")) == set()
    assert (data / "manifest.parquet").read_bytes() == before
    assert (data / "corpus.failures.csv").exists()

    (data / "manifest.parquet").unlink()
    shelved.process("dvc", "remote", "remove", "shelf")
    shutil.rmtree(shelved.folder / ".dvc/cache")
    line = shelved.fails("corpus")
    assert "no such folder: " in line
    assert "manifest.parquet is listed in dvc.lock but is not here, and `dvc pull` says: " in line
    assert not (data / "manifest.parquet").exists()


def test_a_box_without_recordings_follows_the_manifest_of_dvc_lock(shelved):
    """After `git pull` the manifest that lies there is of an older revision, and would be committed again."""
    shelved.process("git", "clone", "--quiet", ".", "../cpu")
    cpu = copy.copy(shelved)
    cpu.folder = shelved.folder.with_name("cpu")
    cpu.process("dvc", "pull", "corpus")
    shelved.add(3).process("dvc", "repro", "corpus")
    shelved.process("dvc", "push", "corpus")
    shutil.copy(shelved.folder / "dvc.lock", cpu.folder / "dvc.lock")
    shelved.recordings.rename(shelved.recordings.with_name("away"))
    assert len(pd.read_parquet(cpu.folder / "data/manifest.parquet")) == 24
    cpu.process("dvc", "repro", "corpus")
    assert len(pd.read_parquet(cpu.folder / "data/manifest.parquet")) == 27
    assert (cpu.folder / "dvc.lock").read_text() == (shelved.folder / "dvc.lock").read_text()


def test_a_study_of_an_earlier_version_is_led_over(repository):
    """Its dvc.yaml lists the folders of recordings; the first `strata corpus` takes them out, and says so once."""
    path = repository.folder / "dvc.yaml"
    text = path.read_text()
    line = next(line for line in text.splitlines() if "always_changed" in line and "recordings" in line)
    old = text.replace(line + "\n", "").replace(
        "    params: [corpora]\n",
        "      - ../recordings\n    params: [corpora]\n    meta:\n      watched:\n        - ../recordings\n",
    )
    path.write_text(old)
    said = repository.process("dvc", "repro", "extract@mfcc")
    assert said.count("stage corpus runs at every `dvc repro` from now on, and lists no recordings any more") == 1
    assert yaml12.load(path.read_text()) == yaml12.load(text)
    assert [line for line in path.read_text().splitlines() if line.startswith("#")] == [
        line for line in text.splitlines() if line.startswith("#")
    ]
    os.mkfifo(repository.recordings / "pipe.wav")
    again = repository.process("dvc", "repro", "extract@mfcc")
    assert "from now on" not in again
    assert ran(again) == set()


def test_a_number_with_an_exponent_is_the_same_to_dvc_and_to_strata(shelved):
    """An absent store whose section says `5e0` is known by dvc.lock, and not computed from zero."""
    params = shelved.folder / "params.yaml"
    params.write_text(params.read_text().replace("num_coefficients: 5\n", "num_coefficients: 5e0\n"))
    assert yaml12.load(params.read_text())["views"]["few"]["num_coefficients"] == 5
    shutil.rmtree(shelved.folder / "features/few.zarr")
    line = shelved.fails("extract", "few")
    assert "features/few.zarr is listed in dvc.lock but is not here: run `dvc pull` first" in line


def test_init_makes_a_repository_and_keeps_what_is_there(repository):
    """A second `strata init` replaces nothing; an unknown recipe is answered with the known ones."""
    before = (repository.folder / "params.yaml").read_text()
    said = repository.succeeds("init", str(repository.folder), "--recipe", "demo")
    assert f"{repository.folder} had a params.yaml, which stays as it is: no recipe was copied" in said
    assert (repository.folder / "params.yaml").read_text() == before
    config = subprocess.run(["git", "status", "--short"], cwd=repository.folder, capture_output=True, text=True).stdout
    assert ".gitignore" in config
    assert "analytics = false" in (repository.folder / ".dvc/config").read_text()
    assert "unknown recipe 'tengo'; there are demo, prompts" in repository.fails("init", "x", "--recipe", "tengo")


def test_both_dvc_files_have_the_same_stages():
    """The repository's depends on its code, a study's on the installed version; nothing else differs."""
    from importlib.resources import files

    here = yaml12.load((Path(__file__).resolve().parents[2] / "dvc.yaml").read_text())["stages"]
    study = yaml12.load(files("strata.pipeline.study").joinpath("templates", "stages.yaml").read_text())["stages"]
    study.pop("version")
    code = ("pipeline/", "extractors", "store", "trainers")
    for one in (here, study):
        for stage in one.values():
            body = stage.get("do", stage)
            body["deps"] = [dep for dep in body["deps"] if not dep.startswith((*code, "strata.version"))]
    assert here == study


def test_the_report_depends_on_all_the_tables_that_it_shows():
    """Those of what could not be used among them; what code a stage depends on is for `tests.test_architecture`."""
    here = yaml12.load((Path(__file__).resolve().parents[2] / "dvc.yaml").read_text())["stages"]
    assert {"data/corpus.failures.csv", "data/transcripts.failures.csv"} <= set(here["report"]["deps"])


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
    assert not ran(said) & {"transcribe", "extract@mfcc", "extract@few"}
    assert said.count("tones: not on this machine (no such folder: ../recordings;") == 1
    assert said.count("data/manifest.parquet keeps what it has of them") == 1
    assert shelved.metrics("two")


def test_this_repository_carries_no_dvc_lock():
    """It would name stores that no fresh clone has; a study's own is its user's to commit."""
    here = Path(__file__).resolve().parents[2]
    tracked = subprocess.run(["git", "ls-files", "dvc.lock"], cwd=here, capture_output=True, text=True).stdout
    assert tracked == ""
