"""The stages one after the other, in this process, on a folder of tones."""

import json
import os
import signal

import numpy as np
import pandas as pd
import pytest
import soundfile

from strata.pipeline.study.manifest import COLUMNS
from strata.store import FeatureStore
from tests.pipeline import forks


def test_the_whole_path_from_recordings_to_a_report(study):
    """Every stage does its work once, says so, and does nothing the second time."""
    assert "24 utterances" in study.succeeds("corpus")
    assert "mfcc: 24 new of 24 utterances" in study.succeeds("extract")
    assert "one (SVMT)" in study.succeeds("train")
    assert "keeps layers" in study.succeeds("eliminate")
    assert "report" in study.succeeds("report")
    assert (study.folder / "report/index.html").stat().st_size > 10_000
    for stage, count in {"corpus": 1, "extract": 2, "train": 2, "eliminate": 1}.items():
        assert study.succeeds(stage).count("up to date") == count
    assert "TANGO" in study.succeeds("report", "--summary")


def test_results_are_the_promised_files(study):
    """metrics.json, predictions.parquet, and a model that says what it needs."""
    for stage in ("corpus", "extract", "train"):
        study.succeeds(stage)
    metrics = study.metrics("two")
    assert set(metrics["tasks"]["speaker"]["accuracy"]) == {"mean", "sd", "folds"}
    assert metrics["provenance"]["views"]["wavlm"]["fingerprint"]["source"] == "miniature:wavlm"
    predictions = pd.read_parquet(study.folder / "results/two/predictions.parquet")
    assert sorted(predictions["utterance"]) == [f"tones/{i:03d}.wav" for i in range(24)]
    config = json.loads((study.folder / "results/two/model/config.json").read_text())
    assert config["views"]["wavlm"]["source"] == "miniature:wavlm"
    assert config["layers"] == {"mfcc": ["mfcc"], "wavlm": ["4"]}


def test_the_manifest_has_the_promised_columns(study):
    """One row per utterance, labels behind the fixed columns, null where a corpus does not label."""
    study.params["corpora"]["other"] = {"adapter": "folder", "root": "other"}
    study.write_params()
    other = study.folder / "other"
    other.mkdir()
    (other / "metadata.csv").write_text("file_name,mood\nx.wav,calm\n")
    soundfile.write(other / "x.wav", np.sin(np.arange(8000) / 9), 8000)
    study.succeeds("corpus")
    table = pd.read_parquet(study.folder / "data/manifest.parquet").set_index("utterance", drop=False)
    assert list(table) == [*COLUMNS, "pitch", "mood"]
    row = table.loc["other/x.wav"]
    assert (row["sampling_rate"], row["duration_s"], row["mood"]) == (8000, 1.0, "calm")
    assert row[["speaker", "split", "transcript", "pitch"]].isna().all()
    assert table["content"].str.fullmatch("[0-9a-f]{32}").all()
    assert row["audio"] == "other/x.wav"


def test_a_grown_corpus_costs_only_its_new_utterances(study):
    """In every view, and it says so."""
    study.succeeds("corpus")
    study.succeeds("extract")
    before = FeatureStore.open(study.folder / "features/wavlm.zarr")
    study.add(10)
    study.succeeds("corpus")
    said = study.succeeds("extract")
    assert "mfcc: 10 new of 34 utterances" in said
    assert "wavlm: 10 new of 34 utterances" in said
    after = FeatureStore.open(study.folder / "features/wavlm.zarr")
    assert len(after) == 34
    np.testing.assert_array_equal(after.pooled(before.keys), before.pooled())


def test_the_same_audio_is_computed_once_and_an_edited_file_anew(study):
    """Identity is the audio, not the name."""
    (study.recordings / "copy.wav").write_bytes((study.recordings / "000.wav").read_bytes())
    study.rows.append("copy.wav,a,100")
    study.add(0)
    study.succeeds("corpus")
    assert "24 new of 24" in study.succeeds("extract", "mfcc")
    samples, rate = soundfile.read(study.recordings / "001.wav")
    soundfile.write(study.recordings / "001.wav", samples[::-1], rate)
    study.succeeds("corpus")
    assert "1 new of 24" in study.succeeds("extract", "mfcc")


def test_bad_files_never_stop_a_run_and_are_listed_with_reasons(study):
    """Unreadable, empty, silent, not finite, missing, and too short for one model but not for another."""
    rate = 16_000
    bad = {
        "noise.wav": b"this is no audio",
        "empty.wav": b"",
        "silent.wav": np.zeros(rate),
        "nan.wav": np.full(rate, np.nan),
        "short.wav": np.resize([0.5, -0.5], 390),
    }
    for name, content in bad.items():
        if isinstance(content, bytes):
            (study.recordings / name).write_bytes(content)
        else:
            soundfile.write(study.recordings / name, content, rate, subtype="FLOAT")
    study.rows += [f"{name},a,1" for name in [*bad, "missing.wav"]]
    study.params["corpora"]["tones"]["max_failed"] = 0.5
    study.write_params().add(0)
    study.succeeds("corpus")
    failures = pd.read_csv(study.folder / "data/corpus.failures.csv").set_index("utterance")["reason"]
    assert set(failures.index) == {f"tones/{name}" for name in [*bad, "missing.wav"]} - {"tones/short.wav"}
    assert "silent" in failures["tones/silent.wav"]
    assert "not finite" in failures["tones/nan.wav"]
    said = study.succeeds("extract", "wavlm")
    assert "1 of 25 utterances cannot be used" in said
    listed = pd.read_csv(study.folder / "features/wavlm.failures.csv")
    assert listed["utterance"].tolist() == ["tones/short.wav"]
    assert "too short" in listed["reason"][0]
    assert "wavlm: up to date (24 of 25 utterances)" in study.succeeds("extract", "wavlm")


def test_too_many_bad_files_fail_after_the_good_ones_are_done(study):
    """The rest of the work is not lost, and the message says where to look."""
    study.rows += ["missing1.wav,a,1", "missing2.wav,a,1"]
    study.add(0)
    assert "2 of 26 recordings cannot be used, more than corpora.tones.max_failed (5%)" in study.fails("corpus")
    assert len(pd.read_parquet(study.folder / "data/manifest.parquet")) == 24


def test_a_killed_extraction_goes_on_where_it_was(study, forked):
    """After a SIGKILL what was committed stays and the rest is computed; the values are those of a quiet run."""
    study.add(176)
    study.succeeds("corpus")
    store = study.folder / "features/wavlm.zarr"
    command = (study.folder, dict(os.environ), "extract", "wavlm")
    process = forked.Process(target=forks.run_to_the_first_commit, args=command)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    done = len(FeatureStore.open(store))
    assert 0 < done < 200
    assert f"wavlm: {200 - done} new of 200 utterances" in study.succeeds("extract", "wavlm")
    resumed = FeatureStore.open(store)
    assert resumed.verify() == []
    store.rename(study.folder / "resumed.zarr")
    study.succeeds("extract", "wavlm")
    quiet = FeatureStore.open(store)
    np.testing.assert_allclose(
        FeatureStore.open(study.folder / "resumed.zarr").pooled(quiet.keys),
        quiet.pooled(),
        rtol=1e-4,
        atol=1e-5,
    )


def test_another_model_under_the_same_name_is_refused(study):
    """By the field that differs, with both ways on."""
    study.succeeds("corpus")
    study.succeeds("extract", "wavlm")
    study.params["views"]["wavlm"]["source"] = "miniature:hubert"
    study.write_params()
    line = study.fails("extract", "wavlm")
    assert "source: stored 'miniature:wavlm', wanted 'miniature:hubert'" in line
    assert "new name" in line


def test_one_failing_view_or_experiment_leaves_the_others_done(study):
    """And is named at the end."""
    bad = {"family": "transformers", "source": "no/such/folder"}
    study.params["views"] = {"bad": bad, **study.params["views"]}
    study.params["experiments"]["bad"] = {"views": ["mfcc"], "tasks": ["mood"]}
    study.params["tasks"]["mood"] = {"kind": "classification"}
    study.write_params()
    study.succeeds("corpus")
    assert "no/such/folder" in study.fails("extract")
    assert len(FeatureStore.open(study.folder / "features/wavlm.zarr")) == 24
    assert "experiment bad: task mood: the manifest has no label 'mood'" in study.fails("train")
    assert study.metrics("two")


def test_only_what_changed_is_trained_again(study):
    """Parameters, labels and cached values decide."""
    for stage in ("corpus", "extract", "train"):
        study.succeeds(stage)
    study.params["experiments"]["one"]["epochs"] = 3
    study.write_params()
    said = study.succeeds("train")
    assert "one (SVMT)" in said
    assert "two: up to date" in said


def test_absent_results_of_an_earlier_stage_name_the_command_to_run(study):
    """In order."""
    assert "run `strata corpus` first" in study.fails("extract")
    study.succeeds("corpus")
    assert "run `strata extract mfcc` first" in study.fails("train", "one")
    assert "no experiments.nobody; it has one, two" in study.fails("train", "nobody")


def test_unexpected_errors_are_one_line_too(study, monkeypatch):
    """With the way to see more; `--debug` raises."""
    from strata.pipeline.stages import corpus

    monkeypatch.setattr(corpus, "run", lambda study: {}["x"])
    assert "unexpected KeyError: 'x'; run again with --debug" in study.fails("corpus")
    with pytest.raises(KeyError):
        study.strata("corpus", "--debug")


def test_a_file_changed_after_it_was_listed_never_enters_the_store(study):
    """A value is filed under what was heard, not under what the manifest remembers; the next listing mends it."""
    study.succeeds("corpus")
    original = (study.recordings / "000.wav").read_bytes()
    (study.recordings / "000.wav").write_bytes((study.recordings / "023.wav").read_bytes())
    said = study.succeeds("extract", "mfcc")
    assert "1 of 24 utterances cannot be used" in said
    listed = pd.read_csv(study.folder / "features/mfcc.failures.csv")
    assert "changed since `strata corpus`" in listed["reason"][0]
    (study.recordings / "000.wav").write_bytes(original)
    study.succeeds("corpus")
    assert "mfcc: 1 new of 24" in study.succeeds("extract", "mfcc")


def test_a_passing_trouble_is_not_remembered(study, monkeypatch):
    """A disk that was away for a moment: the next run tries again."""
    from strata.extractors import UnusableAudio, audio
    from strata.extractors.audio import inspection

    def away(*_, **__):
        raise UnusableAudio("unreadable: System error")

    with monkeypatch.context() as broken:
        broken.setattr(inspection, "inspect", away)
        assert "no usable recording" in study.fails("corpus")
    study.succeeds("corpus")
    with monkeypatch.context() as broken:
        broken.setattr(audio, "read", away)
        assert "24 of 24 utterances failed" in study.fails("extract", "mfcc")
    assert "24 new of 24" in study.succeeds("extract", "mfcc")


def test_results_are_made_again_where_a_part_of_them_is_gone(study):
    """And not because of labels that no task reads."""
    for stage in ("corpus", "extract", "train"):
        study.succeeds(stage)
    (study.folder / "results/one/predictions.parquet").unlink()
    said = study.succeeds("train")
    assert "one (SVMT)" in said
    assert "two: up to date" in said
    table = study.recordings / "metadata.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},junk", *(f"{line},x" for line in lines[1:])]))
    study.succeeds("corpus")
    assert study.succeeds("train").count("up to date") == 2


def test_a_store_is_shown_checked_and_dropped(study):
    """`strata store`, and the way on that a changed view is told."""
    study.succeeds("corpus")
    study.succeeds("extract", "mfcc")
    path = study.folder / "features/mfcc.zarr"
    assert json.loads(study.strata("store", "info", str(path))[1])["rows"] == 24
    assert "24 rows, all of them as they were written" in study.succeeds("store", "verify", str(path))
    shard = path / "pooled/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-9])
    assert "damaged in 1 place;" in study.fails("store", "verify", str(path))
    study.succeeds("store", "drop", str(path))
    assert "24 new of 24" in study.succeeds("extract", "mfcc")
    assert "expected the path of a store" in study.fails("store", "drop", str(study.folder))
    assert "nothing was removed" in study.fails("store", "drop", str(path.with_name("mfc.zarr")))


def test_a_renamed_view_keeps_its_values(study):
    """The store of the old name is offered, not computed again."""
    study.succeeds("corpus")
    study.succeeds("extract", "mfcc")
    study.params["views"]["cepstra"] = study.params["views"].pop("mfcc")
    study.params["experiments"] = {}
    study.write_params()
    line = study.fails("extract", "cepstra")
    assert "mfcc.zarr holds these very values" in line
    (study.folder / "features/mfcc.zarr").rename(study.folder / "features/cepstra.zarr")
    assert "cepstra: up to date" in study.succeeds("extract", "cepstra")


def test_segments_of_one_file_are_utterances_of_their_own(study):
    """Each known by file and segment; one that covers the whole file is the file."""
    tone = study.recordings / "000.wav"
    (study.recordings / "metadata.csv").write_text(
        "file_name,speaker,start_s,duration_s\n000.wav,a,,\n000.wav,a,0,0.3\n000.wav,b,0.1,\n000.wav,b,0.05,0.12345\n"
    )
    assert soundfile.info(tone).duration == 0.3
    assert "4 utterances" in study.succeeds("corpus")
    contents = pd.read_parquet(study.folder / "data/manifest.parquet")["content"].tolist()
    assert contents[0] == contents[1]
    assert len(set(contents)) == 3
    assert "3 new of 3" in study.succeeds("extract", "mfcc")
    assert len(FeatureStore.open(study.folder / "features/mfcc.zarr")) == 3
