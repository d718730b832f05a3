"""`strata corpus` on several corpora at once: one manifest, in which nobody is taken for somebody else."""

import unicodedata

import numpy as np
import pandas as pd
import pytest
import soundfile

from strata.pipeline.stages.corpus import _manifest
from strata.pipeline.study.manifest import COLUMNS
from strata.trainers.inputs.data import targets_of
from strata.trainers.spec import Task

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


NFC, NFD = (unicodedata.normalize(form, "Gefühl") for form in ("NFC", "NFD"))


def rewrite(study, *columns):
    """The table of the study's recordings with these columns, each a function of a row's number; the manifest."""
    names = [row.split(",")[0] for row in study.rows]
    header = ["file_name", *(f"label_{number}" for number in range(len(columns)))]
    rows = [",".join([name, *(column(number) for column in columns)]) for number, name in enumerate(names)]
    (study.recordings / "metadata.csv").write_text("\n".join([",".join(header), *rows]) + "\n")
    study.succeeds("corpus")
    return manifest(study)


@pytest.mark.parametrize("stem", ["1234567890123456", "12345678901234567890123456789", "-900719925474099"])
def test_every_digit_reaches_the_names_of_classes(study, stem):
    """However many there are: ten numbers are ten classes, called as the table writes them."""
    table = rewrite(study, lambda number: f"{stem}{number % 10}")
    task = Task(kind="classification")
    assert targets_of("label_0", task, table).classes == tuple(sorted(f"{stem}{digit}" for digit in range(10)))


def test_long_numbers_can_still_be_regressed_to(study):
    """That a column keeps its digits as text makes it no other task."""
    table = rewrite(study, lambda number: f"{number + 1}2345678901234567")
    assert targets_of("label_0", Task(kind="regression"), table).known.all()


def test_one_word_is_one_class_in_the_manifest(study):
    """Also where one corpus has it in one of Unicode's forms and another in another, as column and as value."""
    table = rewrite(study, lambda number: (NFC, NFD)[number % 2])
    assert set(table["label_0"]) == {NFC}
    study.params["corpora"]["tones"]["rename"] = {"label_0": NFD}
    study.write_params().succeeds("corpus")
    assert set(manifest(study)[NFC]) == {NFC}


def test_numbers_of_an_adapter_keep_their_digits():
    """Whole numbers that are no float64, among missing ones and beyond any float."""
    labels = [{"a": 2**53 + 1, "b": 3}, {"a": 2**53, "b": None}, {"a": None, "b": 0.5}, {"a": 10**400, "b": 7}]
    known = {"utterance": "x/1", "audio": "a", "start_s": 0.0, "duration_s": 1.0, "sampling_rate": 8000, "content": "c"}
    table = _manifest([known | each for each in labels])
    assert list(table["a"]) == [str(2**53 + 1), str(2**53), None, str(10**400)]
    assert table["b"].dtype == float
    assert table["sampling_rate"].dtype == int


def test_a_stretch_by_its_end_is_no_whole_file(study):
    """What the manifest says of `0,0.25` is a quarter of a second."""
    (study.recordings / "metadata.csv").write_text(
        "file_name,speaker,start_s,end_s\n000.wav,a,0,0.25\n001.wav,b,0.1,0.3\n"
    )
    study.succeeds("corpus")
    table = manifest(study)
    assert list(table["duration_s"]) == pytest.approx([0.25, 0.2])
    assert list(table["start_s"]) == [0.0, 0.1]
    assert "end_s" not in table
    assert list(table.index) == ["tones/000.wav#0.0+0.25", "tones/001.wav#0.1+0.2"]


def test_twelve_classes_of_speech_commands(study, plant):
    """Seconds of noise are utterances of their own, each with its content."""
    root = plant(study.folder / "words", "yes/004ae714_nohash_0.wav", "tree/004ae714_nohash_1.wav")
    (root / "_background_noise_").mkdir()
    noise = np.random.default_rng(0).normal(size=40_000) * 0.1
    soundfile.write(root / "_background_noise_" / "running_tap.wav", noise, 16_000)
    study.params["corpora"] = {"words": {"adapter": "speech-commands", "root": "words", "classes": "twelve"}}
    study.write_params().succeeds("corpus")
    table = manifest(study)
    assert list(table["keyword"]) == ["_unknown_", "yes", "_silence_", "_silence_"]
    assert list(table["duration_s"])[2:] == [1.0, 1.0]
    assert table["content"].is_unique
    assert list(table["split"])[2:] == ["validation"] * 2
