"""Utterances that are parts of recordings: which is which, what overlaps, and what was heard."""

import shutil

import numpy as np
import pandas as pd
import soundfile

from strata.extractors import audio
from strata.extractors.audio import remembered, sound
from strata.pipeline.stages import corpus
from strata.pipeline.study import segments
from strata.pipeline.study.folder import Study


def table(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["audio", "audio_content", "start_s", "duration_s"])


def test_what_was_heard_covers_whatever_overlaps_it():
    """Segments of what was heard whole, the whole of what was heard in parts, and copies elsewhere; nothing else."""
    rows = table(
        [
            ("a.wav", "A", 0.0, 10.0),
            ("copy/a.wav", "A", 4.0, 1.0),
            ("a.wav", "A", 5.0, 1.0),
            ("b.wav", "B", 0.0, 10.0),
            ("b.wav", "B", 2.0, 3.0),
            ("b.wav", "B", 5.0, 3.0),
            ("c.wav", "C", 0.0, 10.0),
        ]
    )
    heard = segments.spans(rows)
    found = [
        np.flatnonzero(segments.overlapping(rows, heard.iloc[which])).tolist() for which in ([0], [1], [4], [6, 5])
    ]
    assert found == [[0, 1, 2], [0, 1], [3, 4], [3, 5, 6]]
    assert not segments.overlapping(rows, heard.iloc[:0]).any()


def test_segments_that_follow_each_other_do_not_overlap_where_their_times_are_rounded():
    """Begins to a millisecond and durations of 333.5 ms share half of one; what shares two does overlap."""
    starts = np.round(np.arange(40) * 0.3335, 3)
    rows = table([("a.wav", "A", start, 0.3335) for start in starts])
    assert len(np.unique(segments.of(rows).overlaps())) == 40
    heard = segments.spans(rows)
    assert all(segments.overlapping(rows, heard.iloc[[row]]).sum() == 1 for row in range(40))
    longer = rows.assign(duration_s=0.3355)
    assert len(np.unique(segments.of(longer).overlaps())) == 1
    assert segments.overlapping(longer, segments.spans(longer).iloc[[5]]).sum() == 3


def test_an_older_manifest_knows_recordings_by_their_paths():
    """It has no column for the bytes of whole files."""
    rows = table([("a.wav", None, 0.0, 1.0), ("a.wav", None, 0.5, 1.0), ("b.wav", None, 0.0, 1.0)])
    for manifest in (rows, rows.drop(columns="audio_content")):
        assert segments.of(manifest).recordings == ["a.wav", "a.wav", "b.wav"]
        assert len(np.unique(segments.of(manifest).overlaps())) == 2


def folds_of(study, experiment: str) -> pd.DataFrame:
    """For each tested utterance its fold and its row of the manifest."""
    tested = pd.read_parquet(study.folder / "results" / experiment / "predictions.parquet")[["utterance", "fold"]]
    return tested.merge(pd.read_parquet(study.folder / "data/manifest.parquet"), on="utterance")


def test_segments_of_a_study_stay_together(study):
    """Overlapping ones always, also of a copy at another path; all of a recording with `disjoint: audio`."""
    shutil.copy(study.recordings / "001.wav", study.recordings / "copy.wav")
    rows = [f"{i:03d}.wav,{start},0.12,{'ab'[i % 2]}" for i in range(8) for start in (0.0, 0.06, 0.18)]
    rows.append("copy.wav,0.03,0.12,b")
    (study.recordings / "metadata.csv").write_text("\n".join(["file_name,start_s,duration_s,speaker", *rows]) + "\n")
    plain = {"views": ["mfcc"], "tasks": ["speaker"], "epochs": 1, "final": False}
    study.params |= {
        "views": {"mfcc": {"family": "mfcc"}},
        "experiments": {
            "plain": plain | {"folds": {"k": 4}},
            "whole": plain | {"folds": {"k": 4, "disjoint": "audio"}},
        },
        "eliminate": {},
    }
    study.write_params()
    for stage in ("corpus", "extract", "train"):
        study.succeeds(stage)
    apart, whole = folds_of(study, "plain"), folds_of(study, "whole")
    assert len(apart) == len(whole) == 25
    first = apart[apart["start_s"] < 0.15]
    assert (first.groupby("audio_content")["fold"].nunique() == 1).all()
    assert first["audio"].nunique() == first["audio_content"].nunique() + 1 == 9
    assert (apart.groupby("audio_content")["fold"].nunique() > 1).any()
    assert (whole.groupby("audio_content")["fold"].nunique() == 1).all()
    assert "up to date" in study.succeeds("train", "plain")


def test_a_file_is_identified_once_however_many_utterances_are_parts_of_it(study, monkeypatch):
    """An hour that was divided into a thousand is not read a thousand times for its name."""
    rows = [f"000.wav,{start},0.05,a" for start in (0.0, 0.06, 0.12, 0.18)]
    (study.recordings / "metadata.csv").write_text("\n".join(["file_name,start_s,duration_s,speaker", *rows]) + "\n")
    study.params |= {"views": {}, "experiments": {}, "eliminate": {}}
    study.write_params()
    wholes = []
    real = corpus.audio.content

    def content(path, *segment):
        wholes.extend([path] * (not segment))
        return real(path, *segment)

    monkeypatch.setattr(corpus.audio, "content", content)
    monkeypatch.setattr(corpus.os, "cpu_count", lambda: 1)  # files side by side may be looked at by each
    corpus.run(Study(study.folder / "params.yaml"))
    assert len(wholes) == 1


def test_a_whole_file_and_its_parts_are_of_one_recording(study, monkeypatch):
    """Also where less is decoded than the header counts, so that even the whole row is told as a stretch."""
    real = corpus.audio.content
    monkeypatch.setattr(corpus.audio, "content", lambda path, *stretch: f"{real(path)}{'#' if stretch else ''}")
    (study.recordings / "metadata.csv").write_text("file_name,start_s,duration_s\n000.wav,,\n000.wav,0.06,0.05\n")
    study.params |= {"views": {}, "experiments": {}, "eliminate": {}}
    study.write_params()
    study.succeeds("corpus")
    manifest = pd.read_parquet(study.folder / "data/manifest.parquet")
    assert manifest["audio_content"].tolist() == 2 * [real(study.recordings / "000.wav")]


def test_a_file_is_looked_into_once_however_many_utterances_are_parts_of_it(study, monkeypatch):
    """Listing decodes and hashes it once, and so does extraction; the identities are those of each segment alone."""
    monkeypatch.setattr(remembered, "FRESH_S", -1e9)
    generator = np.random.default_rng(4)
    soundfile.write(study.recordings / "long.flac", generator.normal(size=16_000 * 30) / 9, 16_000)
    with (study.recordings / "metadata.csv").open("w") as table:
        table.write("file_name,start_s,end_s,speaker,pitch\n")
        table.writelines(f"long.flac,{number / 5},{number / 5 + 0.2},a,1\n" for number in range(140))
    counts = {"frames": 0, "digests": 0}
    blocks, digest = sound._Sndfile.blocks, audio._digest._find

    def decode(self, *arguments):
        for block in blocks(self, *arguments):
            counts["frames"] += len(block)
            yield block

    def hashed(path):
        counts["digests"] += 1
        return digest(path)

    monkeypatch.setattr(sound._Sndfile, "blocks", decode)
    monkeypatch.setattr(audio, "_digest", remembered.PerFile(hashed))
    study.succeeds("corpus")
    assert counts["frames"] <= 16_000 * 30
    table = pd.read_parquet(study.folder / "data/manifest.parquet")
    assert len(table) == table["content"].nunique() == 140
    path = study.recordings / "long.flac"
    wanted = [audio.content(path, start, 0.2) for start in table["start_s"]]
    assert table["content"].tolist() == wanted
    study.succeeds("extract", "mfcc")
    assert counts["digests"] == 1
