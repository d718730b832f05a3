"""`strata corpus` on several corpora at once: one manifest, in which nobody is taken for somebody else."""

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.corpus import COLUMNS

CREMA_D = ["AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1003_IEO_NEU_LO.wav", "AudioWAV/1001_DFA_ANG_XX (1).wav"]
BAVED = ["0/3-f-21-0-1-3.wav", "1/1003-m-20-1-2-9.wav"]
EMO_DB = ["wav/03a01Wa.wav", "wav/03a01Nc.wav"]


@pytest.fixture
def three(study, plant):
    """A study of CREMA-D, BAVED and emo-DB, whose speakers have numbers in common; one recording is silent."""
    plant(study.folder / "cremad", *CREMA_D)
    plant(study.folder / "baved", *BAVED)
    plant(study.folder / "emodb", *EMO_DB)
    soundfile.write(study.folder / "cremad/AudioWAV/1076_MTI_SAD_XX.wav", np.zeros(800), 16_000)
    (study.folder / "cremad/VideoDemographics.csv").write_text("ActorID,Age,Sex\n1001,51,Male\n1003,21,Female\n")
    study.params["corpora"] = {
        "acted": {"adapter": "crema-d", "root": "cremad", "max_failed": 0.5},
        "baved": {"adapter": "baved", "root": "baved"},
        "berlin": {"adapter": "emo-db", "root": "emodb"},
    }
    return study.write_params()


def manifest(study):
    """Its rows, by utterance."""
    return pd.read_parquet(study.folder / "data/manifest.parquet").set_index("utterance", drop=False)


def test_three_corpora_make_one_manifest(three):
    """All labels side by side, ages as numbers, null where a corpus does not label; bad files listed with reasons."""
    said = three.succeeds("corpus")
    table = manifest(three)
    assert list(table) == [*COLUMNS, "emotion", "intensity", "gender", "age", "word", "level", "version"]
    assert dict(table["age"]) == {
        "acted/1001_DFA_ANG_XX": 51.0,
        "acted/1003_IEO_NEU_LO": 21.0,
        "baved/1003-m-20-1-2-9": 20.0,
        "baved/3-f-21-0-1-3": 21.0,
        "berlin/03a01Nc": 31.0,
        "berlin/03a01Wa": 31.0,
    }
    row = table.loc["berlin/03a01Wa"]
    assert (row["speaker"], row["emotion"], row["gender"], row["version"]) == ("emo-db/03", "anger", "male", "a")
    assert row[["intensity", "word", "level", "split"]].isna().all()
    assert row["audio"] == "emodb/wav/03a01Wa.wav"
    failures = pd.read_csv(three.folder / "data/corpus.failures.csv").set_index("utterance")["reason"]
    assert list(failures.index) == ["acted/1076_MTI_SAD_XX", "acted/AudioWAV/1001_DFA_ANG_XX (1).wav"]
    assert "silent" in failures.iloc[0]
    assert "unknown intensity 'XX (1)'" in failures.iloc[1]
    assert "is taken for one person" not in said


def test_speakers_of_different_corpora_stay_different(three):
    """Number 3 of one and 03 of the other, 1003 of one and of the other, are four people."""
    three.succeeds("corpus")
    assert set(manifest(three)["speaker"]) == {
        "crema-d/1001",
        "crema-d/1003",
        "baved/3",
        "baved/1003",
        "emo-db/03",
    }


def test_a_corpus_given_twice_has_the_same_speakers(three):
    """Two copies, of which one may be degraded, are of the same people, and it is said that they are taken for such."""
    three.params["corpora"]["again"] = {"adapter": "emo-db", "root": "emodb"}
    three.write_params()
    assert "speaker 'emo-db/03' (and 0 more) occurs in several corpora" in three.succeeds("corpus")
    assert set(manifest(three).filter(regex="^(again|berlin)/", axis=0)["speaker"]) == {"emo-db/03"}


def test_a_corpus_with_nothing_usable_is_told_in_one_line(three):
    """With what was expected and what was found."""
    three.params["corpora"]["berlin"]["root"] = "baved"
    line = three.write_params().fails("corpus")
    assert "expected files such as wav/03a01Fa.wav, found 2" in line
    assert "let `root` lead to a copy of emo-DB" in line


def test_labels_enter_the_manifest_under_their_new_names(three):
    """In the corpus whose section says so and in no other; names can be exchanged."""
    before = three.succeeds("corpus") and manifest(three)
    three.params["corpora"]["berlin"]["rename"] = {"emotion": "style", "version": "take"}
    three.params["corpora"]["baved"]["rename"] = {"word": "transcript", "transcript": "word", "speaker": "who"}
    three.write_params().succeeds("corpus")
    table = manifest(three)
    berlin, baved = before["utterance"].str.startswith("berlin/"), before["utterance"].str.startswith("baved/")
    assert list(table.loc[berlin, "style"]) == list(before.loc[berlin, "emotion"])
    assert list(table.loc[berlin, "take"]) == list(before.loc[berlin, "version"])
    assert table.loc[berlin, "emotion"].isna().all()
    assert table.loc[~berlin, "style"].isna().all()
    assert list(table.loc[~berlin, "emotion"]) == list(before.loc[~berlin, "emotion"])
    assert table.loc[baved, "speaker"].isna().all()
    assert list(table.loc[baved, "who"]) == list(before.loc[baved, "speaker"])


def test_a_label_renamed_to_a_reserved_column_is_that_column(study):
    """A folder whose speakers are called otherwise has speakers; they are text, as everywhere."""
    study.params["corpora"]["tones"]["rename"] = {"pitch": "speaker", "speaker": "person"}
    study.write_params().succeeds("corpus")
    table = manifest(study)
    assert list(table["speaker"][:2]) == ["100", "107"]
    assert list(table["person"][:2]) == ["a", "b"]


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (
            {"pich": "height"},
            "corpora.tones.rename: no label 'pich' in this corpus, did you mean 'pitch'?; it has speaker, pitch",
        ),
        ({"file_name": "name"}, "corpora.tones.rename: no label 'file_name' in this corpus; it has speaker, pitch"),
        (
            {"pitch": "speaker"},
            "corpora.tones.rename: pitch cannot be called speaker, which the corpus has too; rename speaker as well",
        ),
        ({"pitch": "content"}, "corpora.tones.rename: pitch cannot be called content, which the manifest fills in by"),
        ({"pitch": "x", "speaker": "x"}, "corpora.tones.rename: pitch and speaker cannot both be called x"),
        ({"pitch": ""}, "corpora.tones.rename"),
        ("pitch", "corpora.tones.rename: expected"),
    ],
)
def test_a_new_name_that_cannot_be(study, rename, message):
    """Is one line with the section, the label and the next step; no manifest is written."""
    study.params["corpora"]["tones"]["rename"] = rename
    assert message in study.write_params().fails("corpus")
    assert not (study.folder / "data/manifest.parquet").exists()
