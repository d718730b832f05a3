"""`strata bench extract` says how fast a view is, of what, and leaves nothing behind."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from strata.pipeline.commands import bench

FIELDS = {
    "view", "utterances", "audio_s", "hours_per_hour", "num_workers", "notices", "decode_s", "compute_s", "write_s",
    "rounds", "unusable", "device", "batch_s", "compute_dtype", "peak_bytes", "operations", "matrix_rate", "size",
    "share_of_matrix_rate", "is_text",
}  # fmt: skip


@pytest.fixture
def listed(study, monkeypatch):
    """A study with its manifest and no stores; measurements are cut short."""
    monkeypatch.setattr(bench, "LEAST_S", 0.05)
    study.succeeds("corpus")
    return study


def measured(study, *arguments: str) -> list[dict]:
    status, out, err = study.strata("bench", "extract", *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_network_is_measured_in_full(listed):
    """Times, operations and their share of the matrix rate are positive numbers, of the sample's utterances."""
    (found,) = measured(listed, "wavlm")
    assert found.keys() == FIELDS
    assert found["utterances"] == 24
    assert found["audio_s"] == pytest.approx(24 * 0.33, rel=0.02)
    assert min(found[name] for name in ("hours_per_hour", "decode_s", "compute_s", "write_s", "matrix_rate")) > 0
    assert 0 < found["share_of_matrix_rate"] < 1
    assert found["share_of_matrix_rate"] == pytest.approx(
        found["operations"] / found["compute_s"] / found["matrix_rate"]
    )
    assert found["size"]["parameters"] == found["size"]["whole"] > 0
    assert (found["compute_dtype"], found["peak_bytes"]) == ("float32", None)
    assert found["device"].startswith("cpu (")


def test_without_a_network_there_are_dashes(listed):
    """A family without PyTorch has times, but no operations, parameters or batches; the table shows dashes."""
    (found,) = measured(listed, "mfcc")
    assert found["hours_per_hour"] > 0
    absent = ("batch_s", "peak_bytes", "operations", "matrix_rate", "share_of_matrix_rate", "size")
    assert [found[name] for name in absent] == [None] * len(absent)
    _, out, _ = listed.strata("bench", "extract", "mfcc")
    assert {line.split("  ")[0] for line in out.splitlines() if line.endswith("–")} == {
        "batch at most", "peak device memory", "parameters", "matrix rate reached while computing",
    }  # fmt: skip


def test_a_cut_is_shown_with_what_it_saves(listed):
    """Parameters and bytes before and after; fewer operations than the whole model takes."""
    listed.params["views"]["short"] = {**listed.params["views"]["wavlm"], "layers": {"upto": 1}}
    listed.write_params()
    whole, short = measured(listed, "wavlm", "short")
    assert short["size"]["parameters"] < short["size"]["whole"] == whole["size"]["whole"]
    assert short["operations"] < whole["operations"]
    _, out, _ = listed.strata("bench", "extract", "short")
    assert "by the cut" in out
    assert " → " in out


def test_random_weights_are_said_to_be_random_and_synthetic_speech_synthetic(listed):
    """On stdout, below the numbers; of real speech and a family without weights nothing is said."""
    assert "Random weights: The view wavlm is computed by untrained miniatures" in listed.succeeds(
        "bench", "extract", "wavlm"
    )
    assert measured(listed, "mfcc")[0]["notices"] == []
    listed.params["corpora"] = {"demo": {"adapter": "demo", "speakers": 4, "utterances_per_speaker": 2}}
    listed.write_params().succeeds("corpus")
    assert "Synthetic speech: The corpus demo is made" in listed.succeeds("bench", "extract", "mfcc")


def test_it_leaves_stores_and_study_as_they_were(listed):
    """No store appears, one that is there keeps its bytes, nothing stays below .strata but what anything leaves."""
    listed.succeeds("extract", "mfcc")
    store = listed.folder / "features" / "mfcc.zarr"
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    there = files(listed.folder)
    listed.succeeds("bench", "extract")
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before
    assert files(listed.folder) - there <= {".strata/bench.lock"}


def test_a_failure_leaves_nothing_either(listed, monkeypatch):
    """Whatever goes wrong in the middle, the temporary store is gone."""

    def broken(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(bench, "_pass", broken)
    assert "view mfcc: the disk is gone" in listed.fails("bench", "extract", "mfcc")
    assert not (listed.folder / ".strata" / "bench").exists()


def test_what_a_killed_measurement_left_is_removed(listed):
    """The next one begins with an empty folder."""
    left = listed.folder / ".strata" / "bench" / "old.zarr"
    left.mkdir(parents=True)
    listed.succeeds("bench", "extract", "mfcc")
    assert not left.parent.exists()


def test_mistakes_are_one_line(listed):
    """An unknown view, a sample of nothing, a manifest that is empty or absent."""
    assert "has no views.wavml; it has mfcc, wavlm" in listed.fails("bench", "extract", "wavml")
    assert "--seconds: expected a positive number" in listed.fails("bench", "extract", "--seconds", "0")
    manifest = listed.folder / "data" / "manifest.parquet"
    pd.read_parquet(manifest).head(0).to_parquet(manifest)
    assert "lists no utterance: add recordings, then run `strata corpus`" in listed.fails("bench", "extract")
    manifest.unlink()
    assert "run `strata corpus` first" in listed.fails("bench", "extract")


def test_a_sample_that_no_view_can_take_is_an_error(listed):
    """Recordings that are gone since they were listed leave nothing to measure."""
    for path in listed.recordings.glob("*.wav"):
        path.unlink()
    assert "none of the 24 utterances drawn can be used" in listed.fails("bench", "extract", "mfcc")


def test_workers_are_measured_as_workers(listed, forked):
    """With `extract.workers: 2` the blocks go to two processes."""
    listed.params["extract"] = {"workers": 2}
    listed.write_params()
    assert measured(listed, "mfcc")[0]["num_workers"] == 2


def test_the_sample_has_the_durations_of_the_corpus():
    """Of a few long and many short recordings each kind is drawn in proportion, without repeats, and always the same
    ones."""
    durations = np.concatenate([np.full(900, 2.0), np.full(100, 31.0)])
    table = pd.DataFrame({"duration_s": durations, "content": [f"{i:04d}" for i in range(1000)]})
    drawn = bench.sample(table.sample(frac=1, random_state=1), 490.0)
    assert drawn["content"].is_unique
    assert len(drawn) == 100
    assert (drawn["duration_s"] == 31.0).sum() == 10
    pd.testing.assert_frame_equal(drawn, bench.sample(table, 490.0))


def test_a_sample_is_never_empty_and_never_more_than_there_is():
    """Less than one utterance is one; more than all are all."""
    table = pd.DataFrame({"duration_s": [2.0, 3.0, 5.0], "content": list("abc")})
    assert len(bench.sample(table, 0.1)) == 1
    assert sorted(bench.sample(table, 1e6)["content"]) == list("abc")


def test_the_sample_comes_near_what_was_asked_for():
    """Also where one recording holds most of the audio: the others fill it up, and it is left out."""
    table = pd.DataFrame(
        {"duration_s": [720.0, *np.linspace(0.5, 3.5, 45)], "content": [f"{i:02d}" for i in range(46)]}
    )
    drawn = bench.sample(table, 60.0)["duration_s"]
    assert 55 < drawn.sum() <= 62
    assert drawn.max() < 4
    assert bench.sample(table, 60.0).equals(bench.sample(table.sample(frac=1, random_state=0), 60.0))
    assert len(bench.sample(table, 1e6)) == 46
