"""`strata corpus` where recordings are not: what the manifest has of them stays."""

import shutil

import pandas as pd
import pytest


@pytest.fixture
def two(study):
    """A study of two corpora, one with a bad file; and its manifest's table."""
    other = study.folder.parent / "other"
    shutil.copytree(study.recordings, other)
    (other / "metadata.csv").write_text("file_name,mood,none\n000.wav,calm,\n001.wav,,\nbad.wav,calm,\n")
    (other / "bad.wav").write_bytes(b"no audio")
    for number in (0, 1):
        (other / f"00{number}.wav").write_bytes((study.recordings / f"02{number}.wav").read_bytes())
    study.params["corpora"] = {
        "other": {"adapter": "folder", "root": "../other", "max_failed": 0.5},
        "tones": study.params["corpora"]["tones"],
    }
    study.write_params().succeeds("corpus")
    return study


def manifest(study) -> pd.DataFrame:
    return pd.read_parquet(study.folder / "data/manifest.parquet")


def away(study, *names: str) -> None:
    for name in names:
        folder = study.recordings if name == "tones" else study.folder.parent / "other"
        folder.rename(folder.with_name(f"{name} on another box"))


def test_where_no_recording_is_both_tables_stay_to_the_byte(two):
    """One line says so, and the command succeeds."""
    files = [two.folder / "data" / name for name in ("manifest.parquet", "corpus.failures.csv")]
    before = [file.read_bytes() for file in files]
    away(two, "tones", "other")
    said = two.succeeds("corpus")
    assert [file.read_bytes() for file in files] == before
    assert "other, tones: not on this machine (no such folder: " in said
    assert said.count("not on this machine") == 1


@pytest.mark.parametrize("absent", ["tones", "other"])
def test_a_corpus_that_is_here_is_read_and_the_other_stays(two, absent):
    """Rows, labels, types and failures of the absent one are as they were; an added recording of the other counts."""
    before = manifest(two)
    away(two, absent)
    two.succeeds("corpus")
    pd.testing.assert_frame_equal(manifest(two), before)
    if absent == "other":
        two.add(1)
        two.succeeds("corpus")
        after = manifest(two)
        assert len(after) == len(before) + 1
        pd.testing.assert_frame_equal(after[: len(before)], before)
    failures = pd.read_csv(two.folder / "data/corpus.failures.csv")
    assert failures["utterance"].tolist() == ["other/bad.wav"]


def test_a_corpus_that_params_has_no_more_goes_with_its_labels(two):
    """Even where the recordings of those that stay are absent."""
    away(two, "tones", "other")
    two.params["corpora"].pop("other")
    two.write_params().succeeds("corpus")
    after = manifest(two)
    assert after["utterance"].str.startswith("tones/").all()
    assert len(after) == 24
    assert "mood" not in after


def test_a_table_without_one_of_its_recordings_is_an_absent_corpus(two):
    """As where git brought metadata.csv, and nothing else."""
    before = manifest(two)
    for file in two.recordings.glob("*.wav"):
        file.unlink()
    assert "tones: not on this machine (none of its files is here)" in two.succeeds("corpus")
    pd.testing.assert_frame_equal(manifest(two), before)


def test_what_is_here_and_cannot_be_read_is_an_error_as_ever(two):
    """Absence alone keeps rows: a table that is spoilt, and a corpus that was never listed, are told."""
    table = two.recordings / "metadata.csv"
    table.write_text("spoilt\n1\n")
    assert "has no column file_name" in two.fails("corpus")
    table.unlink()
    two.params["corpora"]["third"] = {"adapter": "folder", "root": "../nowhere"}
    two.add(0).write_params()
    assert "no such folder: " in two.fails("corpus")


def test_another_pyarrow_is_no_other_manifest(two):
    """Bytes that say the same stay, so that no later stage runs on account of a library's version."""
    path = two.folder / "data/manifest.parquet"
    manifest(two).to_parquet(path, index=False, compression="gzip")
    before = path.read_bytes()
    assert "up to date" in two.succeeds("corpus")
    assert path.read_bytes() == before
