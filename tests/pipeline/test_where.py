"""A study is found from any folder below it."""

import os

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
