"""From a trained model to embeddings in a store of their own, and to what is trained on them."""

import json

import numpy as np
import pandas as pd
import pytest

from strata.store import FeatureStore
from strata.trainers.evaluation.predictor import Predictor


@pytest.fixture
def embedded(study):
    """Trained on the corpus's own split; half of the rows know their pitch, all their speaker."""
    study.rows = [f"{row},{'test' if i % 3 == 0 else 'train'}" for i, row in enumerate(study.rows)]
    (study.recordings / "metadata.csv").write_text("\n".join(["file_name,speaker,pitch,split", *study.rows]) + "\n")
    folds = {"given": "split", "validation": 0.25}
    unified = {"views": ["wavlm"], "layers": "all", "encoder": "unified", "pooling": "learned-norm", "shared": 13}
    unified |= {"embedding": 17, "tasks": ["speaker"], "folds": folds, "epochs": 2}
    study.params |= {
        "views": {"wavlm": {"family": "transformers", "source": "miniature:wavlm"}},
        "experiments": {"one": unified},
        "eliminate": {},
        "embed": {"unified": {"experiment": "one"}},
        "downstream": {
            "pitch": {"views": ["unified"], "tasks": ["pitch"], "folds": folds, "epochs": 2},
            "same": {"views": ["unified"], "verify": "speaker", "folds": folds},
            "mood": {"views": ["unified"], "tasks": ["mood"], "folds": folds},
            "elsewhere": {"views": ["unified"], "tasks": ["pitch"], "corpora": ["voxforge"], "folds": folds},
        },
    }
    study.params["tasks"]["mood"] = {"kind": "classification"}
    study.write_params()
    for stage in ("corpus", "extract", "train"):
        study.succeeds(stage)
    return study


def results(study, name: str) -> dict:
    return json.loads((study.folder / "results/downstream" / name / "metrics.json").read_text())


def test_embeddings_are_the_models_own(embedded):
    """One per utterance, each what the saved model makes of the cached layers; a second run has nothing to do."""
    assert "unified: 24 embeddings of 17 numbers from 5 layers" in embedded.succeeds("embed")
    store = FeatureStore.open(embedded.folder / "embeddings/unified.zarr")
    predictor, config = Predictor.load(embedded.folder / "results/one/model")
    layers = FeatureStore.open(embedded.folder / "features/wavlm.zarr").pooled(store.keys, config["layers"]["wavlm"])
    np.testing.assert_allclose(store.pooled()[:, 0], predictor.embed({"wavlm": layers}), rtol=1e-5, atol=1e-6)
    assert "unified: up to date, 24 embeddings" in embedded.succeeds("embed")


def test_a_grown_corpus_costs_its_new_rows(embedded):
    """And what is there stays, bit for bit."""
    embedded.succeeds("embed")
    before = FeatureStore.open(embedded.folder / "embeddings/unified.zarr")
    values = before.pooled()
    embedded.rows = [row.rsplit(",", 1)[0] for row in embedded.rows]
    embedded.add(2)
    for stage in ("corpus", "extract"):
        embedded.succeeds(stage)
    assert "unified: 2 embeddings" in embedded.succeeds("embed")
    after = FeatureStore.open(embedded.folder / "embeddings/unified.zarr")
    np.testing.assert_array_equal(after.pooled(before.keys), values)


def test_another_model_makes_other_embeddings(embedded):
    """Trained anew with other widths: the store is made anew, and says so."""
    embedded.succeeds("embed")
    embedded.params["experiments"]["one"]["embedding"] = 11
    embedded.write_params().succeeds("train")
    assert "is of another model: made anew" in embedded.succeeds("embed")
    assert FeatureStore.open(embedded.folder / "embeddings/unified.zarr").header.dim == 11


def test_tasks_and_trials_run_on_embeddings_and_the_rest_is_skipped(embedded):
    """Heads and verification leave scores; what no corpus labels, or a corpus that is not there, leaves its reason."""
    embedded.succeeds("embed")
    said = embedded.succeeds("downstream")
    assert "downstream/mood: skipped, no utterance of tones is labelled for mood" in said
    assert "downstream/elsewhere: skipped, no corpus voxforge in params.yaml" in said
    assert results(embedded, "pitch")["tasks"]["pitch"]["ccc"]["folds"]
    same = results(embedded, "same")
    assert same["kinds"] == {"speaker": "verification"}
    assert 0 <= same["tasks"]["speaker"]["eer"]["mean"] <= 1
    trials = pd.read_parquet(embedded.folder / "results/downstream/same/trials.parquet")
    assert len(trials) == same["num_trials"] == 8 * 7 / 2
    skipped = json.loads((embedded.folder / "results/downstream/mood/skipped.json").read_text())
    assert skipped["name"] == "mood"
    again = embedded.succeeds("downstream")
    assert again.count("up to date") == 2


def test_what_is_labelled_later_is_no_longer_skipped(embedded):
    """And what lacks its label again loses its scores."""
    embedded.succeeds("embed")
    embedded.succeeds("downstream", "mood")
    embedded.params["tasks"]["mood"]["label"] = "speaker"
    embedded.write_params().succeeds("downstream", "mood")
    assert results(embedded, "mood")["tasks"]["mood"]
    assert not (embedded.folder / "results/downstream/mood/skipped.json").exists()
    embedded.params["tasks"]["mood"]["label"] = "humour"
    embedded.write_params().succeeds("downstream", "mood")
    assert not (embedded.folder / "results/downstream/mood/metrics.json").exists()


def test_what_trained_the_embedding_is_never_tested(embedded):
    """Folds of one's own over utterances that the model has seen test only the others, and say how many those are."""
    embedded.params["downstream"] = {
        "pitch": {"views": ["unified"], "tasks": ["pitch"], "folds": {"k": 2}, "epochs": 2},
    }
    embedded.write_params().succeeds("embed")
    said = embedded.succeeds("downstream")
    assert "16 of 24 utterances have trained the embedding and are never tested" in said
    tested = pd.read_parquet(embedded.folder / "results/downstream/pitch/predictions.parquet")["utterance"]
    assert sorted(tested) == [f"tones/{i:03d}.wav" for i in range(0, 24, 3)]


def test_a_model_that_saw_everything_leaves_nothing_to_test(embedded):
    """Heads and verification are skipped with a line that says how to divide, and the report comes about."""
    embedded.params["experiments"]["one"]["folds"] = {"k": 2}
    embedded.write_params().succeeds("train")
    embedded.succeeds("embed")
    said = embedded.succeeds("downstream")
    for name in ("pitch", "same"):
        assert f"downstream/{name}: skipped, all 24 utterances of tones have trained the embedding" in said
        assert not (embedded.folder / "results/downstream" / name / "metrics.json").exists()
    assert said.count("divide both by the same folds: {given: split}") == 2
    embedded.succeeds("report")
    assert "have trained the embedding" in (embedded.folder / "report/index.html").read_text()


def test_what_must_not_be_tested_belongs_to_the_embeddings(embedded):
    """A model that was trained anew on less does not free what the embeddings that are there were trained on."""
    embedded.params["experiments"]["one"]["folds"] = {"k": 2}
    embedded.write_params().succeeds("train")
    embedded.succeeds("embed")
    embedded.params["experiments"]["one"]["folds"] = {"given": "split", "validation": 0.25}
    embedded.write_params().succeeds("train")
    assert "have trained the embedding" in embedded.succeeds("downstream", "pitch")
    embedded.succeeds("embed")
    embedded.succeeds("downstream", "pitch")


def test_a_training_that_was_cut_short_embeds_nothing(embedded):
    """metrics.json comes last: without it, what lies there may be of two trainings."""
    (embedded.folder / "results/one/metrics.json").unlink()
    assert "run `strata train one` first" in embedded.fails("embed")


def test_another_upstream_is_refused(embedded):
    """The model would take any numbers of the right shape for its own."""
    embedded.params["views"]["wavlm"]["source"] = "miniature:hubert"
    embedded.write_params().succeeds("store", "drop", str(embedded.folder / "features/wavlm.zarr"))
    embedded.succeeds("extract")
    said = embedded.fails("embed")
    assert "view wavlm: expected the values that experiment one was trained on, found others" in said
    assert "run `strata train one`" in said


def test_only_a_unified_model_embeds(embedded):
    """Which is found before anything is trained."""
    one = embedded.params["experiments"]["one"]
    one |= {"encoder": "linear", "pooling": "weighted"}
    del one["shared"], one["embedding"]
    line = embedded.write_params().fails("train")
    assert "embed.unified: expected an experiment with an embedding, found one with the encoder linear" in line


def test_only_a_model_that_was_kept_embeds(embedded):
    """Where it was not, the command that makes it is told."""
    embedded.params["experiments"]["one"]["final"] = False
    embedded.write_params().succeeds("train")
    assert "run `strata train one` first, without `final: false`" in embedded.fails("embed")


def test_downstream_without_embeddings_names_the_command(embedded):
    """Before anything is trained."""
    assert "run `strata embed unified` first" in embedded.fails("downstream", "pitch")


def test_files_become_rows_of_an_array(embedded):
    """What the stage makes of cached layers, `--model` makes of audio; a bad file is a row of NaN and a line."""
    embedded.succeeds("embed")
    store = FeatureStore.open(embedded.folder / "embeddings/unified.zarr")
    manifest = pd.read_parquet(embedded.folder / "data/manifest.parquet")
    files = [str(embedded.recordings / f"{i:03d}.wav") for i in (5, 2, 7)]
    keys = manifest.set_index("utterance")["content"][[f"tones/{i:03d}.wav" for i in (5, 2, 7)]].tolist()
    target = embedded.folder / "some.npy"
    asked = ["embed", "--model", str(embedded.folder / "results/one/model"), "--output", str(target)]
    embedded.succeeds(*asked, *files)
    np.testing.assert_allclose(np.load(target), store.pooled(keys)[:, 0], rtol=1e-3, atol=1e-4)
    (embedded.folder / "bad.wav").write_bytes(b"no audio")
    said = embedded.fails(*asked, files[0], str(embedded.folder / "bad.wav"))
    assert "1 of 2 files cannot be used, their rows are NaN" in said
    given = np.load(target)
    assert np.isfinite(given[0]).all()
    assert np.isnan(given[1]).all()


def test_segments_of_what_trained_the_embedding_are_never_tested(embedded):
    """Another corpus lists parts of copies of the recordings; and the embedding remembers what it heard, not where."""
    rows = []
    for number in range(24):
        name = f"{number:03d}.wav"
        tone = embedded.recordings / name
        (embedded.folder / "parts").mkdir(exist_ok=True)
        (embedded.folder / "parts" / name).write_bytes(tone.read_bytes())
        rows.append(f"{name},0.05,0.2,{'ab'[number // 2 % 2]}")
    lines = ["file_name,start_s,duration_s,half", *rows]
    (embedded.folder / "parts/metadata.csv").write_text("\n".join(lines) + "\n")
    embedded.params["corpora"]["parts"] = {"adapter": "folder", "root": "parts"}
    embedded.params["tasks"]["half"] = {"kind": "classification"}
    embedded.params["experiments"]["one"]["corpora"] = ["tones"]
    half = {"views": ["unified"], "tasks": ["half"], "corpora": ["parts"], "folds": {"k": 2}, "epochs": 1}
    embedded.params["downstream"] = {"half": half}
    embedded.write_params()
    for stage in ("corpus", "extract", "train", "embed"):
        embedded.succeeds(stage)
    assert "16 of 24 utterances have trained the embedding and are never tested" in embedded.succeeds("downstream")
    tested = pd.read_parquet(embedded.folder / "results/downstream/half/predictions.parquet")["utterance"]
    assert sorted(name.split("#")[0] for name in tested) == [f"parts/{i:03d}.wav" for i in range(0, 24, 3)]
