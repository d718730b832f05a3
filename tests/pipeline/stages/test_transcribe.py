"""`strata transcribe`: texts are made once per recording and recogniser, and every later stage sees them."""

import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from strata.pipeline.study.folder import Study
from tests.pipeline.texts import LOOPS, SPEECH

ASR = {"source": "miniature:whisper", "max_new_tokens": 4}


@pytest.fixture
def study(study):
    """A few tones and one recogniser; the corpus is listed."""
    study.rows = study.rows[:5]
    study.params["transcribe"] = {"asr": dict(ASR)}
    study.write_params().add(0).succeeds("corpus")
    return study


@pytest.fixture
def no_model(monkeypatch):
    """Makes loading a recogniser an error."""

    def forbid():
        from strata import extractors

        monkeypatch.setattr(extractors, "load_recogniser", None)

    return forbid


def texts(study, name="asr") -> pd.Series:
    """A recogniser's texts by utterance, as later stages see them."""
    table = Study(study.folder / "params.yaml").read_manifest()
    return table.set_index("utterance")[f"transcript_{name}"]


def failures(study) -> pd.DataFrame:
    """The table of what could not be transcribed."""
    return pd.read_csv(study.folder / "data/transcripts.failures.csv", dtype=str)


def test_texts_are_made_once_and_later_stages_see_them(study, no_model):
    """As a column of the manifest's rows; the second run needs no model, and leaves every byte as it is."""
    said = study.succeeds("transcribe")
    assert "asr: 5 new of 5 utterances" in said
    assert "asr: transcribed 5 in" in said
    assert texts(study).str.len().gt(0).all()
    assert failures(study).empty
    before = (study.folder / "data/transcripts.parquet").read_bytes()
    no_model()
    assert "asr: up to date (5 of 5 utterances)" in study.succeeds("transcribe", "asr")
    assert (study.folder / "data/transcripts.parquet").read_bytes() == before
    assert list(pd.read_parquet(study.folder / "data/transcripts.parquet")) == ["content", "transcript_asr"]
    assert "mfcc: 5 new" in study.succeeds("extract", "mfcc")


def test_a_grown_corpus_costs_only_its_new_recordings(study):
    """And what leaves the corpus costs nothing when it comes back."""
    study.succeeds("transcribe")
    before = texts(study)
    study.add(2).succeeds("corpus")
    assert "asr: 2 new of 7 utterances" in study.succeeds("transcribe")
    assert texts(study)[before.index].equals(before)
    rows, study.rows = study.rows, study.rows[3:]
    study.add(0).succeeds("corpus")
    assert "up to date" in study.succeeds("transcribe")
    study.rows = rows
    study.add(0).succeeds("corpus")
    assert "asr: up to date (7 of 7" in study.succeeds("transcribe")


def test_another_setting_makes_its_column_anew_and_no_other(study):
    """Until it has been run, later stages see no column of that name; nor once params name it no more."""
    study.params["transcribe"]["other"] = ASR | {"language": "it"}
    study.write_params().succeeds("transcribe")
    first, other = texts(study), texts(study, "other")
    study.params["transcribe"]["asr"]["max_new_tokens"] = 2
    study.write_params()
    assert "transcript_asr" not in Study(study.folder / "params.yaml").read_manifest()
    said = study.succeeds("transcribe")
    assert "asr: another model or setting than before; its 5 texts are made anew" in said
    assert "asr: transcribed 5" in said
    assert "other: up to date" in said
    assert [len(text.split()) for text in texts(study)] == [2] * 5
    assert not texts(study).equals(first)
    assert texts(study, "other").equals(other)
    del study.params["transcribe"]["other"]
    study.write_params()
    assert "transcript_other" not in Study(study.folder / "params.yaml").read_manifest()


def test_bad_files_stop_nothing_and_are_listed_with_reasons(study):
    """Per recogniser, and tried again where the trouble may pass; more of them than `max_failed` fail the stage."""
    (study.recordings / "000.wav").unlink()
    soundfile.write(study.recordings / "001.wav", np.sin(np.arange(9000) / 9), 16_000)
    study.params["transcribe"]["other"] = ASR | {"max_new_tokens": 2}
    study.params["extract"] = {"max_failed": 0.5}
    study.write_params()
    assert "asr: 2 of 5 utterances cannot be used" in study.succeeds("transcribe")
    assert texts(study).notna().tolist() == [False, False, True, True, True]
    listed = failures(study)
    assert listed["recogniser"].tolist() == ["asr", "asr", "other", "other"]
    reasons = listed.set_index(["recogniser", "utterance"])["reason"]
    assert "changed since `strata corpus`" in reasons["asr", "tones/001.wav"]
    assert reasons["other", "tones/000.wav"] == "no such file"
    study.params["extract"] = {"max_failed": 0.05}
    study.write_params()
    line = study.fails("transcribe", "asr")
    assert "recogniser asr: 2 of 5 utterances failed, more than extract.max_failed (5%)" in line
    assert len(failures(study)) == 4  # the other's stay
    study.succeeds("report")
    assert "data/transcripts.failures.csv" in (study.folder / "report/index.html").read_text()


def test_a_recording_too_large_for_memory_stops_no_other(study, monkeypatch):
    """It is listed with the way out and tried again by the next run; the rest is transcribed."""
    from strata.extractors.transformers.recogniser import Recogniser

    soundfile.write(study.recordings / "long.wav", np.sin(np.arange(16_000 * 31) / 9), 16_000)
    study.rows.append("long.wav,a,1")
    study.params["extract"] = {"max_failed": 0.5}
    study.write_params().add(0).succeeds("corpus")
    original = Recogniser._features

    def features(self, waveforms, **how):
        if how:  # what longer audio than 30 s is asked for
            raise MemoryError
        return original(self, waveforms)

    with monkeypatch.context() as patch:
        patch.setattr(Recogniser, "_features", features)
        assert "asr: 1 of 6 utterances cannot be used" in study.succeeds("transcribe")
    assert texts(study).notna().sum() == 5
    assert failures(study)["utterance"].tolist() == ["tones/long.wav"]
    assert "window_s of at most 30" in failures(study)["reason"][0]
    assert "asr: 1 new of 6" in study.succeeds("transcribe")
    assert texts(study).notna().all()
    assert failures(study).empty


def test_a_recording_that_cannot_even_be_decoded_in_memory_stops_no_other(study, monkeypatch):
    """As any file that cannot be read."""
    from strata.extractors import audio

    original = audio.read

    def read(path, *how):
        if path.name == "003.wav":
            raise MemoryError
        return original(path, *how)

    monkeypatch.setattr(audio, "read", read)
    study.params["extract"] = {"max_failed": 0.5}
    study.write_params().succeeds("transcribe")
    assert texts(study).isna().tolist() == [False, False, False, True, False]
    assert "does not fit into memory" in failures(study)["reason"][0]


STALE = "transcript_asr was made by another state of"


@pytest.fixture
def local(study):
    """The checkpoint as a folder of the study's own; its texts are made."""
    from strata.extractors import load_recogniser

    folder = study.folder / "whisper"
    shutil.copytree(load_recogniser(ASR).checkpoint, folder)
    study.params["transcribe"]["asr"]["source"] = "whisper"
    assert STALE not in study.write_params().succeeds("transcribe")
    return folder


def test_texts_of_another_state_of_the_checkpoint_are_told(study, local, monkeypatch):
    """Once per command and with the next step, which says nothing of it itself; no model is loaded to find out."""
    assert STALE not in study.succeeds("extract", "mfcc")
    tokenizer = local / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("Ġblack", "Ġblank"))
    with monkeypatch.context() as patch:
        patch.setattr("strata.extractors.load_recogniser", None)
        line = f"{STALE} {local}: run `strata transcribe`"
        assert study.succeeds("extract", "mfcc").count(line) == 1
        assert study.succeeds("train", "one").count(line) == 1
    said = study.succeeds("transcribe")
    assert STALE not in said
    assert "asr: another model or setting than before; its 5 texts are made anew" in said
    assert STALE not in study.succeeds("extract", "mfcc")


def test_texts_of_an_earlier_state_that_came_back_are_told(study, local):
    """As `dvc checkout` of an older table does it: the files are those last seen, and the texts are not theirs."""
    path = study.folder / "data/transcripts.parquet"
    before = path.read_bytes()
    tokenizer = local / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("Ġblack", "Ġblank"))
    study.succeeds("transcribe")
    assert STALE not in study.succeeds("extract", "mfcc")
    path.write_bytes(before)
    assert STALE in study.succeeds("extract", "mfcc")


@pytest.mark.parametrize("gone", ["whisper", ".strata"])
def test_a_box_without_the_checkpoint_hears_nothing_of_it(gone, study, local):
    """Nor does one that has it, and has never used it."""
    (local / "tokenizer.json").write_text("{}")
    assert STALE in study.succeeds("extract", "mfcc")
    shutil.rmtree(study.folder / gone)
    assert STALE not in study.succeeds("extract", "mfcc")


def test_a_box_without_the_model_has_nothing_to_do_on_a_whole_table(study, local):
    """Such as one that trains on what another has made; where a text is missing, it says what it lacks."""
    path = study.folder / "data/transcripts.parquet"
    before = path.read_bytes()
    local.rename(local.with_name("on another box"))
    shutil.rmtree(study.folder / ".strata")
    said = study.succeeds("transcribe")
    assert "asr: its model is not on this machine; the texts are taken for those that their table" in said
    assert "asr: up to date (5 of 5 utterances)" in said
    assert path.read_bytes() == before
    study.add(6).succeeds("corpus")
    assert "recogniser asr: whisper is no folder here" in study.fails("transcribe")
    assert path.read_bytes() == before


def test_without_recognisers_there_is_an_empty_table(study):
    """DVC wants the file; texts of a recogniser that is gone are kept for when it comes back."""
    study.params["transcribe"] = {}
    study.write_params()
    assert "nothing to do" in study.succeeds("transcribe")
    assert list(pd.read_parquet(study.folder / "data/transcripts.parquet")) == ["content"]
    assert failures(study).empty
    study.params["transcribe"] = {"asr": ASR}
    study.write_params().succeeds("transcribe")
    study.params["transcribe"] = {}
    study.write_params().succeeds("transcribe")
    study.params["transcribe"] = {"asr": ASR}
    assert "up to date" in study.write_params().succeeds("transcribe")


def test_a_study_from_before_goes_on_as_it_was(study):
    """No section in params, no table, no stage in dvc.yaml: every command works."""
    del study.params["transcribe"]
    study.write_params()
    for stage in (["extract", "mfcc"], ["train", "one"], ["report"]):
        study.succeeds(*stage)
    assert not (study.folder / "data/transcripts.parquet").exists()
    assert "nothing to do" in study.succeeds("transcribe")
    assert "one: up to date" in study.succeeds("train", "one")


def test_a_label_of_the_same_name_is_refused(study):
    """In one line that says what to rename."""
    table = study.recordings / "metadata.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{header},transcript_asr", *(f"{row},x" for row in rows)]))
    study.succeeds("corpus")
    assert "the corpus has a label transcript_asr, which is the column of transcribe.asr" in study.fails("transcribe")


def test_mistakes_are_named_before_any_work(study):
    """In params by the nearest known key; a model that is nowhere by its source; a spoilt table by its file."""
    study.params["transcribe"]["asr"] = ASR | {"langage": "it"}
    line = study.write_params().fails("transcribe")
    assert "transcribe.asr.langage: unknown key, did you mean 'language'?" in line
    study.params["transcribe"]["asr"] = {"source": "./nowhere"}
    assert "recogniser asr: source './nowhere': expected an existing local directory" in study.write_params().fails(
        "transcribe"
    )
    assert "no transcribe.asl; it has asr" in study.fails("transcribe", "asl")
    (study.folder / "data/transcripts.parquet").write_bytes(b"PAR1")
    assert "transcripts.parquet is not a table of transcripts" in study.fails("transcribe")


def test_one_writer_at_a_time(study):
    """The second is told who is at work."""
    from strata.store.lock import exclusive

    with exclusive(study.folder / "data/transcripts.parquet"):
        assert "is being written by process" in study.fails("transcribe")


def test_a_table_that_dvc_knows_is_pulled_not_made_anew(study):
    """As long as dvc.lock lists it from the very section that params have now."""
    path = study.folder / "data/transcripts.parquet"
    stage = {
        "cmd": "strata transcribe",
        "params": {"params.yaml": {"transcribe": study.params["transcribe"]}},
        "outs": [{"path": "data/transcripts.parquet", "md5": "0" * 32}],
    }
    (study.folder / "dvc.lock").write_text(yaml.safe_dump({"stages": {"transcribe": stage}}))
    assert "is listed in dvc.lock but is not here: run `dvc pull transcribe` first" in study.fails("transcribe")
    assert not path.exists()
    study.params["transcribe"]["asr"]["max_new_tokens"] = 3
    study.write_params().succeeds("transcribe")
    assert path.exists()


@pytest.fixture
def heard(study, monkeypatch):
    """Has the recogniser hear a loop in the first two recordings, and something to believe in the others."""
    from strata.extractors.transformers.recogniser import Recogniser

    said = dict(
        zip([800 * k for k in range(6, 11)], [LOOPS[0], SPEECH[0] + SPEECH[1], "one", "two", "three"], strict=True)
    )

    def transcribe(self, waveforms, sampling_rate):
        lengths = sorted(said)
        return [said[min(lengths, key=lambda known: abs(known - len(one)))] for one in waveforms]

    for number, length in enumerate(said):
        wave = np.sin(np.arange(length) * (0.1 + 0.01 * number))
        soundfile.write(study.recordings / f"{number:03d}.wav", wave, 16_000)
    study.succeeds("corpus")
    monkeypatch.setattr(Recogniser, "transcribe", transcribe)
    return study


def test_texts_that_loop_are_listed_and_left_out_on_request(heard):
    """They are no failures: they stay in the table, are listed anew by every run, and count against no limit."""
    heard.params["views"] |= {
        "all": {"family": "text", "source": "miniature:bert", "columns": ["transcript_asr"]},
        "some": {"family": "text", "source": "miniature:bert", "columns": ["transcript_asr"], "without_loops": True},
    }
    for said in (heard.write_params().succeeds("transcribe"), heard.succeeds("transcribe")):
        assert "asr: 2 of 5 texts loop, or are too long for their recording" in said
        assert "without_loops: true" in said
        listed = failures(heard).set_index("utterance")["reason"]
        assert list(listed.index) == ["tones/000.wav", "tones/001.wav"]
        assert "repeats itself" in listed["tones/000.wav"]
        assert "characters a second" in listed["tones/001.wav"]
    assert texts(heard).notna().all()
    assert "all: 5 new of 5 texts" in heard.succeeds("extract", "all")
    said = heard.succeeds("extract", "some")
    assert "some: 3 new of 3 texts" in said
    assert "2 of 5 utterances have no text in transcript_asr" in said
    assert "run `strata transcribe`" not in said


def test_a_recogniser_hears_the_corpora_that_it_is_given(study):
    """And no others; what it has heard of others stays, but is not shown. Another choice makes no text anew."""
    study.params["corpora"]["more"] = {"adapter": "folder", "root": "more"}
    study.params["transcribe"]["asr"]["corpora"] = ["more"]
    (study.folder / "more").mkdir()
    soundfile.write(study.folder / "more/a.wav", np.sin(np.arange(9000) / 9), 16_000)
    (study.folder / "more/metadata.csv").write_text("file_name,speaker\na.wav,c\n")
    study.write_params().succeeds("corpus")
    assert "asr: 1 new of 1 utterances" in study.succeeds("transcribe")
    assert texts(study).notna().sum() == 1
    del study.params["transcribe"]["asr"]["corpora"]
    assert "asr: 5 new of 6 utterances" in study.write_params().succeeds("transcribe")
    assert texts(study).notna().all()
    study.params["transcribe"]["asr"]["corpora"] = ["more"]
    assert "asr: up to date (1 of 1 utterances)" in study.write_params().succeeds("transcribe")
    assert list(texts(study).dropna().index) == ["more/a.wav"]
    study.params["transcribe"]["asr"]["corpora"] = ["mor"]
    assert "transcribe.asr: unknown corpus 'mor', did you mean 'more'?" in study.write_params().fails("transcribe")
