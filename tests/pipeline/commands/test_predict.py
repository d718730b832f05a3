"""`strata predict`: answers to files are those to the stored rows, whatever is cut, batched or lacking."""

import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from strata import extractors
from strata.extractors import speechbrain
from strata.pipeline.corpora.folder import Folder
from strata.pipeline.extraction import portions, upstreams
from strata.store import FeatureStore
from strata.trainers.evaluation.predictor import Predictor
from tests.pipeline.commands.predicting import EXPERIMENTS, FEW, HOW, VIEWS, edit, refused, run


@pytest.fixture(scope="module")
def shared(new_study, silence, tmp_path_factory):
    """A study with a trained model of every kind; one checkpoint lies in a folder of its own."""
    folder = tmp_path_factory.mktemp("predict") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(folder.parent / "miniatures"))
        study = new_study(folder, silence).add(24)
        checkpoint = extractors.load(VIEWS["xvector"]).checkpoint
        shutil.copytree(checkpoint, folder / "checkpoints" / "xvector")
        study.params |= {
            "views": VIEWS,
            "experiments": {k: e | (FEW if "encoder" in e else HOW) for k, e in EXPERIMENTS.items()},
            "eliminate": {},
        }
        study.params["tasks"]["voice"] = {"kind": "binary", "label": "speaker"}
        study.write_params()
        for stage in ("corpus", "extract", "train"):
            study.succeeds(stage)
        yield study


@pytest.fixture
def trained(shared, capsys):
    """That study, with this test's streams."""
    shared.capsys = capsys
    return shared


@pytest.fixture
def copied(trained, tmp_path):
    """Its model of MFCCs on another machine: nothing else is there."""
    return Path(shutil.copytree(trained.folder / "results/hand-crafted/model", tmp_path / "model"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_answers_are_those_of_the_stored_rows(name, trained, monkeypatch):
    """For every family, whole or cut, in padded batches, over many portions; for joint and separate heads."""
    monkeypatch.setattr(portions, "PORTION_S", 2.0)
    table = pd.read_parquet(trained.folder / "data/manifest.parquet")
    model = trained.folder / "results" / name / "model"
    predictor, config = Predictor.load(model)
    features = {
        view: FeatureStore.open(trained.folder / f"features/{view}.zarr").pooled(table["content"].tolist(), layers)
        for view, layers in config["layers"].items()
    }
    wanted = predictor(features)
    files = [trained.folder / audio for audio in table["audio"]]
    status, lines, _ = run(trained, model, "--json", "--batch-s", "1.5", *files)
    assert status == 0
    assert [line["file"] for line in lines] == [str(file) for file in files]
    np.testing.assert_allclose([line["duration_s"] for line in lines], table["duration_s"], atol=1e-3)
    for task, (answers, probabilities) in wanted.items():
        given = [line["tasks"][task] for line in lines]
        if probabilities is None:
            np.testing.assert_allclose([one["answer"] for one in given], answers, rtol=1e-4)
            assert all(list(one) == ["answer"] for one in given)
            continue
        assert [one["answer"] for one in given] == answers.tolist()
        assert all(list(one["probabilities"]) == ["a", "b"] for one in given)
        found = np.array([list(one["probabilities"].values()) for one in given])
        np.testing.assert_allclose(found, probabilities, atol=1e-4)
        np.testing.assert_allclose([one["probability"] for one in given], probabilities.max(1), atol=1e-4)


def test_a_model_is_made_once_and_only_up_to_the_highest_layer_that_is_read(trained, monkeypatch):
    """However many portions there are; and it keeps no frames, which nobody reads."""
    monkeypatch.setattr(portions, "PORTION_S", 0.5)
    made = []
    load = extractors.load
    monkeypatch.setattr(extractors, "load", lambda *args, **how: made.append(load(*args, **how)) or made[-1])
    files = sorted(trained.recordings.glob("*.wav"))[:7]
    assert run(trained, trained.folder / "results/low/model", *files)[0] == 0
    (model,) = made
    assert model.layer_names == ("2", "5")
    assert model.frame_layers == ()
    assert model.size.parameters < model.size.whole
    made.clear()
    assert run(trained, trained.folder / "results/transport/model", *files)[0] == 0
    assert len(made) == 2


def test_the_model_folder_alone_is_enough(copied, trained, tmp_path, monkeypatch):
    """From any folder, without a study, and nothing is left behind in either."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("STRATA_CACHE")
    file = trained.recordings / "000.wav"
    status, (line,), _ = run(trained, copied, "--json", file)
    assert status == 0
    assert set(line["tasks"]) == {"speaker", "pitch"}
    model = shutil.copytree(trained.folder / "results/transport/model", tmp_path / "other")
    assert run(trained, model, file)[0] == 0
    assert list(Path.cwd().iterdir()) == []
    assert sorted(p.name for p in copied.iterdir()) == ["config.json", "model.safetensors"]


def test_files_that_cannot_be_used_have_a_line_with_the_reason(trained, tmp_path):
    """In both forms; the others are answered, and the exit status is that of a failure."""
    rate = 16_000
    soundfile.write(tmp_path / "short.wav", np.resize([0.5, -0.5], 390), rate)
    soundfile.write(tmp_path / "nan.wav", np.full(rate, np.nan), rate, subtype="FLOAT")
    soundfile.write(tmp_path / "silent.wav", np.zeros(rate), rate)
    soundfile.write(tmp_path / "other.flac", np.random.default_rng(0).normal(size=(4000, 2)) / 9, 8000)
    (tmp_path / "text.wav").write_text("this is no audio")
    (tmp_path / "empty.wav").touch()
    reasons = {
        "short.wav": "too short for the model",
        "nan.wav": "not finite",
        "silent.wav": "silent: peak zero",
        "missing.wav": "no such file",
        "text.wav": "unreadable",
        "other.flac": None,
        "empty.wav": "empty",
        ".": "not a file",
    }
    model, files = trained.folder / "results/transport", [tmp_path / name for name in reasons]
    status, lines, err = run(trained, model, "--json", *files)
    assert status == 1
    assert err.endswith("strata: 7 of 8 files cannot be used, their lines say why; mend them, or leave them out\n")
    for file, line, reason in zip(files, lines, reasons.values(), strict=True):
        assert line["file"] == str(file)
        assert (reason in line["error"]) if reason else (set(line) == {"file", "duration_s", "tasks"})
    status, out, err = run(trained, model, *files)
    assert status == 1
    heading, _, *rows = out.splitlines()
    assert heading.split() == ["file", "speaker", "pitch"]
    for row, reason in zip(rows, reasons.values(), strict=True):
        assert (f"  {reason}" in row) if reason else (" %)" in row)


def test_a_recording_too_large_for_memory_is_one_files_failure(trained, monkeypatch):
    """Those beside it are divided from it and answered."""
    load = extractors.load

    def limited(*args, **how):
        model = load(*args, **how)
        extract = model.extract

        def small(waveforms, rate):
            if any(round(len(waveform) / 160) == 33 for waveform in waveforms):
                raise MemoryError("a single window does not fit into memory")
            return extract(waveforms, rate)

        model.extract = small
        return model

    monkeypatch.setattr(extractors, "load", limited)
    files = sorted(trained.recordings.glob("*.wav"))[:7]  # the fourth lasts 0.33 s
    status, lines, _ = run(trained, trained.folder / "results/hand-crafted", "--json", *files)
    assert status == 1
    assert ["error" in line for line in lines] == [False, False, False, True, False, False, False]
    assert "memory" in lines[3]["error"]


def test_answers_that_are_no_numbers_are_a_failure(trained, copied):
    """Never NaN in JSON, which has none, and never a class drawn from it."""
    tensors = load_file(copied / "model.safetensors")
    tensors["0.views.0.standardise.mean"] *= np.float32("nan")  # what is only large is kept within 30 SD
    save_file(tensors, copied / "model.safetensors")
    status, (line,), _ = run(trained, copied, "--json", trained.recordings / "000.wav")
    assert status == 1
    assert "the answers are not finite" in line["error"]


def test_names_from_standard_input_are_answered_while_more_come(trained, monkeypatch):
    """In order, blank lines aside; what is printed is never more than two portions behind what was read."""
    monkeypatch.setattr(portions, "PORTION_S", 0.1)  # every file is a portion
    names = [str(file) for file in sorted(trained.recordings.glob("*.wav"))[:9]]
    printed = []

    def typed():
        for count, name in enumerate(names):
            printed.extend(trained.capsys.readouterr().out.splitlines())
            assert len(printed) >= count - 3
            yield from (f"{name}\n".encode(), b"\r\n")

    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": typed()}))
    status, lines, _ = run(trained, trained.folder / "results/hand-crafted", "--json", "-")
    assert status == 0
    assert len(printed) >= 5
    assert [json.loads(line)["file"] for line in printed] + [line["file"] for line in lines] == names


def test_a_file_name_that_is_no_text_is_a_name_all_the_same(trained, tmp_path, monkeypatch):
    """Bytes that are no UTF-8, from standard input, in a table and in JSON."""
    name = os.fsencode(tmp_path) + b"/\xff.wav"
    shutil.copy(trained.recordings / "000.wav", os.fsdecode(name))
    model = trained.folder / "results/hand-crafted"
    for form in ((), ("--json",)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(name)))
        assert run(trained, model, *form, "-")[0] == 0


def test_what_answers_are_worth_is_said_on_one_line(trained, copied, tmp_path, monkeypatch):
    """Random weights and synthetic speech; nothing where there is nothing to say."""
    file = trained.recordings / "000.wav"
    assert run(trained, copied, file)[2] == ""
    said = run(trained, trained.folder / "results/transport", file)[2]
    assert said.count("\n") == 1
    assert "The views xvector and wavlm are computed by untrained miniatures" in said
    monkeypatch.setattr(Folder, "synthetic", True)
    trained.params["experiments"]["synthetic"] = trained.params["experiments"]["hand-crafted"]
    trained.write_params()
    trained.succeeds("train", "synthetic")
    said = run(trained, trained.folder / "results/synthetic", file)[2]
    assert said == "The corpus tones is made by a small synthesiser. Numbers here say nothing of real speech.\n"


def test_folders_that_hold_no_model(trained, copied, tmp_path):
    """Are refused by what was expected, with the next step, before any file is opened."""
    line = refused(trained, tmp_path / "nowhere")
    assert "expected a model (config.json and model.safetensors), found no such folder; `strata train` writes" in line
    line = refused(trained, trained.folder / "results")
    assert "found none; name one of those below it: " in line
    assert "results/averaged/model, " in line
    (copied / "model.safetensors").unlink()
    assert "found none; `strata train` writes results/<experiment>/model" in refused(trained, copied)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "expected a model's configuration"),
        ("config.json", "[]", "expected a model's configuration"),
        ("config.json", '{"format": 99}', "expected a model of format 2, found 99"),
        ("config.json", '{"format": 2}', "found what makes none (KeyError: 'experiment')"),
        ("model.safetensors", "no tensors", "found what makes none (SafetensorError"),
    ],
)
def test_damaged_models(file, content, message, trained, copied):
    """Are one line that says to train again."""
    (copied / file).write_text(content)
    line = refused(trained, copied)
    assert message in line
    assert "train it again" in line


def test_a_configuration_without_views(trained, copied):
    """Is no one to predict by."""
    edit(copied, lambda config: config.pop("views"))
    assert "expected section, layers and fingerprint of every view" in refused(trained, copied)


def test_a_model_that_reads_texts_is_refused(trained, copied):
    """Audio files bring none."""
    edit(copied, lambda config: config["views"].update(mfcc={"family": "text", "source": "miniature:bert"}))
    assert "reads transcripts (view mfcc, column transcript), which audio files do not bring" in refused(
        trained, copied
    )


def test_another_preprocessing_than_the_one_trained_on_is_refused(trained, copied):
    """By the field that differs and both its values."""
    edit(copied, lambda config: config["views"]["mfcc"].update(num_mel_bands=41))
    line = refused(trained, copied)
    assert "preprocessing: trained on " in line
    assert line.index("40 mel bands") < line.index(", here ") < line.index("41 mel bands")


def test_layers_that_no_store_had_are_refused(trained, tmp_path):
    """A cut changes no value, but what was never cached was never trained on."""
    model = Path(shutil.copytree(trained.folder / "results/low/model", tmp_path / "model"))
    edit(model, lambda config: config["provenance"]["views"]["large"]["fingerprint"].update(layers=["2"]))
    assert "(layers: trained on ['2'], here ['2', '5'])" in refused(trained, model)


def test_a_checkpoint_beside_the_study_is_found_from_everywhere(trained, tmp_path, monkeypatch):
    """Below the study around the model, beside the params file that is named, or here; else it says where it looked."""
    file = trained.recordings / "000.wav"
    monkeypatch.chdir(tmp_path)
    assert run(trained, trained.folder / "results/beside", file)[0] == 0
    model = shutil.copytree(trained.folder / "results/beside/model", tmp_path / "model")
    line = refused(trained, model, file)
    assert f"expected the folder of its checkpoint at {tmp_path}/checkpoints/xvector, found none" in line
    assert "--params" in line
    assert run(trained, model, file, "--params", trained.folder / "params.yaml")[0] == 0
    shutil.copytree(trained.folder / "checkpoints", tmp_path / "checkpoints")
    assert run(trained, model, file)[0] == 0


def test_another_checkpoint_of_that_name_is_refused(trained, tmp_path, monkeypatch):
    """By its weights."""
    monkeypatch.chdir(tmp_path)
    model = shutil.copytree(trained.folder / "results/beside/model", tmp_path / "model")
    weights = Path(shutil.copytree(trained.folder / "checkpoints", "checkpoints")) / "xvector" / speechbrain.WEIGHTS
    tensors = torch.load(weights, weights_only=True)
    torch.save({name: 2 * values for name, values in tensors.items()}, weights)
    line = refused(trained, model, trained.recordings / "000.wav")
    assert "view beside: expected the model that " in line
    assert "(weights: trained on 'blake2b:" in line
    assert "source" not in line


def test_a_hubs_model_is_asked_for_at_the_commit_that_was_trained_on(trained, copied, monkeypatch):
    """Its main branch may have moved on."""

    def change(config):
        config["views"]["mfcc"] = {"family": "transformers", "source": "owner/name"}
        config["layers"]["mfcc"] = ["last_hidden_state"]
        config["provenance"]["views"]["mfcc"]["fingerprint"] |= {"source": "owner/name", "revision": "c0ffee"}

    asked = []

    def load(section, **_):
        asked.append(section)
        raise extractors.ViewError("not here")

    edit(copied, change)
    monkeypatch.setattr(extractors, "load", load)
    assert "strata: view mfcc: not here" in refused(trained, copied)
    assert asked[0].revision == "c0ffee"


def test_a_channel_can_be_chosen(trained, tmp_path):
    """Where the mean of channels is silence, the reason names the option, and with it the answer is the channel's."""
    tone = 0.3 * np.sin(np.arange(16_000) / 9)
    soundfile.write(tmp_path / "apart.wav", np.stack([tone, -tone], axis=1), 16_000)
    soundfile.write(tmp_path / "left.wav", tone, 16_000)
    model = trained.folder / "results/hand-crafted"
    status, (line,), _ = run(trained, model, "--json", tmp_path / "apart.wav")
    assert status == 1
    assert "by `--channel left` where files are given" in line["error"]
    status, lines, _ = run(trained, model, "--json", "--channel", "left", tmp_path / "apart.wav", tmp_path / "left.wav")
    assert status == 0
    assert lines[0]["tasks"] == lines[1]["tasks"]
    _, (line,), _ = run(trained, model, "--json", "--channel", "2", tmp_path / "apart.wav")
    assert line["error"] == "no channel 2: the file has 2, counted from 0"
    with pytest.raises(SystemExit):
        run(trained, model, "--channel", "middle", tmp_path / "apart.wav")


@pytest.mark.parametrize("option", [("--batch-s", "0"), ("--batch-s", "nan"), ("--device", "abacus")])
def test_options_that_make_no_sense_are_refused(option, trained):
    """In one line."""
    assert f"got {option[1]}" in refused(trained, trained.folder / "results/transport", *option, "x.wav").replace(
        "'", ""
    )


def test_a_process_that_ends_is_one_line(trained, monkeypatch):
    """A family that has a process for itself may run out of memory there."""
    monkeypatch.setattr(extractors, "OWN_PROCESS", {"mfcc"})
    monkeypatch.setattr(upstreams, "_cut", lambda *_: _Fatal())
    assert "the process that computes it has ended" in refused(trained, trained.folder / "results/hand-crafted")


class _Fatal:
    """Ends the process that unpickles it."""

    family = "mfcc"

    def __reduce__(self):
        return os._exit, (1,)
