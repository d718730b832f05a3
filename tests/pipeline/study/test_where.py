"""A study is found from any folder below it."""

import os
import shutil
from pathlib import Path

import pytest
import soundfile

from strata.pipeline import cli
from strata.pipeline.study import where


@pytest.fixture
def below(study, monkeypatch):
    """A study, and the current folder two levels below it."""
    folder = study.folder / "notes" / "today"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return study


def test_a_command_in_a_subfolder_reads_and_writes_the_study_around_it(below, capsys):
    """Nothing is written where it was called."""
    assert cli.main(["corpus"]) == 0
    assert cli.main(["extract", "mfcc"]) == 0
    assert "mfcc: 24 new of 24 utterances" in capsys.readouterr().err
    assert (below.folder / "features/mfcc.zarr").is_dir()
    assert os.listdir() == []


def test_what_is_written_does_not_follow_from_the_current_folder(study, tmp_path, monkeypatch):
    """From the study's folder, from one below it, and by `--params` from elsewhere: the same bytes, no path among them
    that leads from there.
    """
    with (study.recordings / "metadata.csv").open("a") as table:
        table.write("gone.wav,a,1\nlink.wav,a,1\nsub/text.wav,b,2\n/abroad.wav,b,2\n")
    (study.recordings / "link.wav").symlink_to("nowhere.wav")
    (study.recordings / "sub").mkdir()
    (study.recordings / "sub/text.wav").write_text("no audio")
    (study.recordings / "sub/metadata.csv").write_text("name\nx\n")
    study.params["corpora"]["tones"]["max_failed"] = 0.5
    study.params["corpora"]["again"] = study.params["corpora"]["tones"] | {"root": str(study.recordings)}
    study.params["views"].pop("wavlm")
    study.params["experiments"].pop("two")
    study.params["eliminate"] = {}
    study.write_params()
    (study.folder / "notes").mkdir()
    written = {}
    for place, arguments in [(study.folder, []), (study.folder / "notes", []), (tmp_path, ["--params", None])]:
        monkeypatch.chdir(place)
        if arguments:
            arguments[1] = str(study.folder / "params.yaml")
        for folder in ("data", "features", "results", ".strata"):
            shutil.rmtree(study.folder / folder, ignore_errors=True)
        for stage in ("corpus", "extract", "train"):
            assert cli.main([stage, *arguments]) == 0
        files = (study.folder.glob(pattern) for pattern in ("data/*", "features/*.csv", "results/one/*.parquet"))
        written[place] = {path.name: path.read_bytes() for found in files for path in found}
        metrics = study.metrics("one")
        written[place]["metrics"] = {name: metrics[name] for name in ("config", "folds", "tasks")}
    first, below, elsewhere = written.values()
    assert set(first) > {"corpus.failures.csv", "manifest.parquet", "predictions.parquet", "mfcc.failures.csv"}
    listed = first["corpus.failures.csv"].decode()
    assert "no such file: gone.wav" in listed
    assert str(tmp_path) not in listed
    assert below == first
    assert elsewhere == first


def test_the_nearest_params_file_counts(below):
    """A study within a study is its own; a folder of that name is no study."""
    assert where.here().resolve() == below.folder / "params.yaml"
    inner = below.folder / "notes" / "params.yaml"
    inner.mkdir()
    assert where.here().resolve() == below.folder / "params.yaml"
    inner.rmdir()
    inner.write_text("corpora: {demo: {adapter: demo}}")
    assert where.here().resolve() == inner


def test_outside_of_every_study_the_error_says_where_to_go(tmp_path, monkeypatch, capsys):
    """With the way to make one."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["corpus"]) == 1
    assert "no params.yaml: call it in a study's folder or below it (`strata init" in capsys.readouterr().err


def test_files_of_audio_are_those_of_the_current_folder(below, capsys):
    """For `strata predict`, whatever study the folder is in."""
    below.params["views"].pop("wavlm")
    below.params["experiments"].pop("two")
    below.params["eliminate"] = {}
    below.write_params()
    for stage in ("corpus", "extract", "train"):
        assert cli.main([stage]) == 0
    samples, rate = soundfile.read(below.recordings / "003.wav")
    soundfile.write("mine.wav", samples, rate)
    capsys.readouterr()
    model = os.path.relpath(below.folder / "results/one/model")
    assert cli.main(["predict", "--model", model, "mine.wav", "--json"]) == 0
    assert '"mine.wav"' in capsys.readouterr().out
    assert cli.main(["predict", "--model", model, "recordings/003.wav"]) == 1


LOST = "is a link that leads nowhere, to unmounted/{}; mend the link, or copy what it meant"


def test_a_params_file_that_is_a_link_to_nothing_is_told_as_that(below, monkeypatch):
    """By `--params`, and in the folder where a command is called, whatever study lies further up."""
    link = below.folder / "notes/other.yaml"
    link.symlink_to("unmounted/other.yaml")
    assert f"{link} {LOST.format('other.yaml')}" in below.fails("corpus", "--params", str(link))
    monkeypatch.chdir(link.parent)
    (link.parent / "params.yaml").symlink_to("unmounted/params.yaml")
    assert where.here() == Path("params.yaml")


def test_a_store_that_is_a_link_to_nothing_is_told_as_that(study):
    """By every command; a manifest too, and a folder on the way; `strata store drop` removes the link."""
    study.succeeds("corpus")
    store = study.folder / "features/mfcc.zarr"
    store.parent.mkdir(exist_ok=True)
    store.symlink_to("unmounted/mfcc.zarr")
    line = f"{store} {LOST.format('mfcc.zarr')}"
    for command in (
        ["extract", "mfcc"],
        ["train", "one"],
        ["store", "info", str(store)],
        ["store", "verify", str(store)],
    ):
        assert line in study.fails(*command), command
    assert "is gone" in study.succeeds("store", "drop", str(store))
    assert not store.is_symlink()
    study.succeeds("extract", "mfcc")
    manifest = study.folder / "data/manifest.parquet"
    manifest.unlink()
    manifest.symlink_to("unmounted/manifest.parquet")
    assert f"{manifest} {LOST.format('manifest.parquet')}" in study.fails("extract", "mfcc")
    store.parent.rename(store.parent.with_name("kept"))
    store.parent.symlink_to("unmounted/features")
    assert f"{store} is in a folder, features, that is a link that leads" in study.fails("store", "info", str(store))
