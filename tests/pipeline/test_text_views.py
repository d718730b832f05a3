"""Text views: rows known by their text, computed once, and read by heads beside views of the audio."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from strata import extractors
from strata.extractors.view import parse
from strata.pipeline.study import keys
from strata.store import FeatureStore


@pytest.fixture
def spoken(study):
    """A study whose recordings have transcripts: eight sentences said three times each, and two recordings without."""
    study.params["views"] = {
        "bert": {"family": "text", "source": "miniature:bert", "frames": [4]},
        "mfcc": {"family": "mfcc"},
    }
    study.params["experiments"] = {
        "both": {"views": ["mfcc", "bert"], "fusion": "concat", "tasks": ["speaker"], "folds": {"k": 2}, "epochs": 2}
    }
    study.params["eliminate"] = {"bert": {"view": "bert", "tasks": ["speaker"], "epochs": 2}}
    study.write_params()
    write(study, [f"sentence number {index % 8}" for index in range(22)] + ["", "  "])
    study.succeeds("corpus")
    return study


def write(study, transcripts):
    """The corpus's table with a transcript in every row."""
    rows = [f"{row},{text}" for row, text in zip(study.rows, transcripts, strict=True)]
    (study.recordings / "metadata.csv").write_text("\n".join(["file_name,speaker,pitch,transcript", *rows]) + "\n")


def manifest(study):
    return pd.read_parquet(study.folder / "data/manifest.parquet")


def test_every_text_is_computed_once(spoken):
    """Three recordings that say the same share a row, whose key is the text's and whose values are the model's."""
    assert "bert: 8 new of 8 texts" in spoken.succeeds("extract", "bert")
    assert "bert: up to date (8 of 8 texts)" in spoken.succeeds("extract", "bert")
    store = FeatureStore.open(spoken.folder / "features/bert.zarr")
    key = keys.of_text("sentence number 3")
    assert len(store) == 8
    model = extractors.load({"family": "text", "source": "miniature:bert", "frames": [4]}, folder=spoken.folder)
    (expected,) = model.extract(["sentence number 3"])
    np.testing.assert_allclose(store.pooled([key])[0], expected.pooled, atol=1e-5)
    np.testing.assert_allclose(store.frames([key], "4")[0], expected.frames["4"], atol=1e-5)


def test_utterances_without_a_text_are_counted(spoken):
    """So that a transcription that broke off does not shrink the data unnoticed; where none is lacking, nothing is."""
    spoken.params["transcribe"] = {"asr": {"source": "miniature:whisper", "max_new_tokens": 2}}
    spoken.params["views"]["heard"] = {**spoken.params["views"]["bert"], "columns": ["transcript_asr"]}
    spoken.write_params().succeeds("transcribe")
    assert "have no text" not in spoken.succeeds("extract", "heard")
    path = spoken.folder / "data/transcripts.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 21), path)
    line = "heard: 3 of 24 utterances have no text in transcript_asr; run `strata transcribe` ("
    said = spoken.succeeds("extract", "heard")
    assert line in said
    assert "heard: up to date" in said
    said = spoken.succeeds("extract", "bert")
    assert "bert: 2 of 24 utterances have no text in transcript\n" in said  # the corpus's own: nothing to run
    spoken.succeeds("transcribe")
    assert "have no text" not in spoken.succeeds("extract", "heard")


def test_only_new_texts_are_computed(spoken):
    """One transcript that is corrected costs one row."""
    spoken.succeeds("extract", "bert")
    write(spoken, [f"sentence number {index % 8}" for index in range(23)] + ["another one"])
    spoken.succeeds("corpus")
    assert "bert: 1 new of 9 texts" in spoken.succeeds("extract", "bert")


def test_heads_read_text_beside_audio(spoken):
    """Each utterance gets its own text's row; those without a text are left out, and a corrected text trains anew."""
    spoken.succeeds("extract")
    said = spoken.succeeds("train")
    assert "2 of 24 utterances are not in view bert and are left out" in said
    assert "bert: 22 of 22 utterances share their text with another recording" in said
    assert "mfcc: " not in said.replace("mfcc + ", "")
    assert spoken.metrics("both")["num_utterances"] == 22
    assert "keeps layers" in spoken.succeeds("eliminate")
    assert "up to date" in spoken.succeeds("train")
    write(spoken, [f"sentence number {index % 8}" for index in range(1, 23)] + ["", ""])
    spoken.succeeds("corpus")
    assert "up to date" not in spoken.succeeds("train")


def test_texts_can_be_kept_apart(spoken):
    """`disjoint: transcript` puts all who say the same on one side of every split."""
    spoken.params["experiments"]["both"]["folds"] = {"k": 2, "disjoint": "transcript"}
    spoken.write_params()
    spoken.succeeds("extract")
    assert "share their text" not in spoken.succeeds("train")
    predicted = pd.read_parquet(spoken.folder / "results/both/predictions.parquet").set_index("utterance")
    texts = manifest(spoken).set_index("utterance")["transcript"].loc[predicted.index]
    assert (predicted["fold"].groupby(texts).nunique() == 1).all()


def test_each_utterance_has_the_row_of_its_text(spoken):
    """Keys follow the manifest's order and its texts, whatever else they share."""
    spoken.succeeds("extract", "bert")
    view = parse(spoken.params["views"]["bert"])
    table = manifest(spoken)
    found = keys.of(view, table)
    assert found.isna().tolist() == [False] * 22 + [True] * 2
    assert found[:22].tolist() == [keys.of_text(text) for text in table["transcript"][:22]]
    assert set(found[:22]) == set(FeatureStore.open(spoken.folder / "features/bert.zarr").keys)


def test_a_map_of_texts_is_drawn(spoken):
    """The report colours texts by the labels of whoever said them first."""
    spoken.succeeds("extract")
    spoken.params["report"] = {"tsne": [{"view": "bert", "label": "nothing"}]}
    spoken.write_params()
    spoken.succeeds("report")
    without = (spoken.folder / "report/index.html").read_text()
    spoken.params["report"] = {"tsne": [{"view": "bert", "label": "speaker"}]}
    spoken.write_params()
    spoken.succeeds("report")
    page = (spoken.folder / "report/index.html").read_text()
    assert "the t-SNE of view bert by speaker (" not in page  # what a map that could not be drawn leaves behind
    assert page.count("t-SNE") > without.count("t-SNE")


def test_columns_that_are_not_there(spoken):
    """A column that nothing fills is one line, with those that there are; so is a corpus without any text."""
    spoken.params["views"]["bert"]["columns"] = ["transcript_asr"]
    spoken.write_params()
    line = spoken.fails("extract", "bert")
    assert "'transcript_asr', which the manifest lacks; it has transcript" in line
    spoken.params["views"]["bert"]["columns"] = ["transcript"]
    spoken.write_params()
    write(spoken, [""] * 24)
    spoken.succeeds("corpus")
    assert "no utterance has a text in transcript" in spoken.fails("extract", "bert")


def test_float16_that_overflows_is_listed_with_the_way_out(spoken, monkeypatch):
    """Values that are not finite never reach a store; the reason names a format that has the range."""
    from strata.extractors.mfcc import MFCCExtractor

    original = MFCCExtractor._pool

    def overflowing(self, waveform):
        states = original(self, waveform)
        states.pooled[0, 0] = np.inf
        return states

    monkeypatch.setattr(MFCCExtractor, "_pool", overflowing)
    half = MFCCExtractor.fingerprint.fget
    monkeypatch.setattr(MFCCExtractor, "fingerprint", property(lambda self: half(self) | {"compute_dtype": "float16"}))
    spoken.fails("extract", "mfcc")
    listed = pd.read_csv(spoken.folder / "features/mfcc.failures.csv")
    assert set(listed["reason"]) == {"the model's values are not finite; float16 overflows, try bfloat16"}
