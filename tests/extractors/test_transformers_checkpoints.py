"""Hugging Face checkpoints: which of their files count, and what is refused before, or instead of, a wrong value."""

import json
import pickle
import shutil

import pytest
import torch

from strata import extractors
from strata.extractors.contract import ViewError
from tests.extractors.folders import folder_of


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the miniature wav2vec 2.0, to be spoilt."""
    return shutil.copytree(folder_of("wav2vec2"), tmp_path / "checkpoint")


def test_a_moved_checkpoint_stays_the_same(checkpoint, tmp_path):
    """A local directory is identified by its bytes, not by its path; a changed weight is another model."""
    before = extractors.load({"family": "transformers", "source": str(checkpoint)}).fingerprint
    moved = checkpoint.rename(tmp_path / "elsewhere")
    assert extractors.load({"family": "transformers", "source": str(moved)}).fingerprint == before
    weights = moved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    after = extractors.load({"family": "transformers", "source": str(moved)}).fingerprint
    assert {key for key in before if before[key] != after[key]} == {"weights"}


def test_stray_files_are_neither_hashed_nor_loaded(checkpoint, tmp_path, sounds, relative_error):
    """Weights are what transformers loads: beside a stray adapter, weights below and files of other names, two models
    have two fingerprints, and a stray file changes neither fingerprint nor values."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    folders = [checkpoint, shutil.copytree(checkpoint, tmp_path / "other")]
    torch.save(tensors, folders[0] / "pytorch_model.bin")
    torch.save({key: tensor * 1.5 for key, tensor in tensors.items()}, folders[1] / "pytorch_model.bin")
    clean = extractors.load({"family": "transformers", "source": str(folders[0])})
    expected = clean.extract(sounds[:1], 16_000)[0].pooled
    for folder in folders:
        (folder / "below").mkdir()
        for stray in ("adapter.eng.safetensors", "below/model.safetensors", "model.fp16.safetensors"):
            save_file({"weight": torch.ones(3)}, folder / stray)
        (folder / "adapter_config.json").write_text("{}")
    found, other = (extractors.load({"family": "transformers", "source": str(folder)}) for folder in folders)
    assert found.fingerprint == clean.fingerprint
    assert found.fingerprint["weights"] != other.fingerprint["weights"]
    assert relative_error(found.extract(sounds[:1], 16_000)[0].pooled, expected) == 0
    assert relative_error(other.extract(sounds[:1], 16_000)[0].pooled, expected) > 1e-2


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_shards_are_hashed_and_loaded(name, checkpoint, sounds, relative_error):
    """Weights in several files give the values of one; index and every shard it lists count, no other file does."""
    from safetensors.torch import load_file, save_file

    expected = extractors.load({"family": "transformers", "source": str(checkpoint)}).extract(sounds[:1], 16_000)
    tensors = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    stem, suffix = name.split(".")
    shards = [f"{stem}-{number:05}-of-00003.{suffix}" for number in (1, 2, 3)]
    for index, shard in enumerate(shards):
        part = {key: tensors[key] for key in sorted(tensors)[index::3]}
        save_file(part, checkpoint / shard) if suffix == "safetensors" else torch.save(part, checkpoint / shard)
    weight_map = {key: shards[index % 3] for index, key in enumerate(sorted(tensors))}
    listing = checkpoint / f"{name}.index.json"
    listing.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    def fingerprint():
        return extractors.load({"family": "transformers", "source": str(checkpoint)}).fingerprint["weights"]

    found = extractors.load({"family": "transformers", "source": str(checkpoint)}).extract(sounds[:1], 16_000)
    assert relative_error(found[0].pooled, expected[0].pooled) < 1e-6
    seen = [fingerprint()]
    (checkpoint / f"{stem}-00001-of-00009.{suffix}").write_bytes(b"left over")
    assert fingerprint() == seen[0]
    for path in [*(checkpoint / shard for shard in shards), listing]:
        path.write_bytes(path.read_bytes() + b" ")
        seen.append(fingerprint())
    assert len(set(seen)) == 5
    (checkpoint / shards[1]).unlink()
    with pytest.raises(ViewError, match=rf"index\.json lists {shards[1]}: expected it beside the index, found none"):
        fingerprint()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected an index of shards, with the key weight_map"),
        ("no", "expected an index of shards"),
        ('{"weight_map": {"a": "../model.safetensors"}}', r"lists \.\./model\.safetensors: expected it beside"),
    ],
)
def test_an_index_that_lists_no_shards(content, message, checkpoint):
    """An index is read as data, and leads nowhere but to its own folder."""
    (checkpoint / "model.safetensors").rename(checkpoint.parent / "model.safetensors")
    (checkpoint / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ViewError, match=message):
        extractors.load({"family": "transformers", "source": str(checkpoint)})


def test_older_checkpoints_in_pickles_are_read(checkpoint, sounds, relative_error):
    """`pytorch_model.bin` gives the same values, as long as it holds nothing but tensors."""
    from safetensors.torch import load_file

    expected = extractors.load({"family": "transformers", "source": str(checkpoint)}).extract(sounds, 16_000)
    torch.save(load_file(checkpoint / "model.safetensors"), checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()
    found = extractors.load({"family": "transformers", "source": str(checkpoint)}).extract(sounds, 16_000)
    assert relative_error(found[0].pooled, expected[0].pooled) < 1e-6


@pytest.mark.parametrize("name", ["wavlm", "xls-r", "whisper"])
def test_names_of_published_checkpoints(name, tmp_path, sounds, relative_error):
    """Checkpoints of models with heads prefix their names, older ones name the weight norm otherwise, and some hold
    Whisper without its language model: all the same tensors."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folder_of(name), tmp_path / "published")
    prefixed = "" if name == "whisper" else "wav2vec2." if name == "xls-r" else "wavlm."
    older = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = {}
    for key, tensor in load_file(folder / "model.safetensors").items():
        for new, old in older.items():
            key = key.replace(new, old)
        tensors[prefixed + key.removeprefix("model.")] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    found = extractors.load({"family": "transformers", "source": str(folder)}).extract(sounds[:1], 16_000)
    expected = extractors.load({"family": "transformers", "source": f"miniature:{name}"}).extract(sounds[:1], 16_000)
    assert relative_error(found[0].pooled, expected[0].pooled) < 1e-6


def test_a_pickle_with_a_payload_is_not_run(checkpoint, tmp_path, sounds):
    """Weights are data: a pickle that would run a program is refused, and the program does not run."""

    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps({"encoder.layer_norm.bias": Payload()}, protocol=2))
    extractor = extractors.load({"family": "transformers", "source": str(checkpoint)})
    with pytest.raises(ViewError, match="hold more than tensors"):
        extractor.extract(sounds, 16_000)
    assert not (tmp_path / "ran").exists()


def test_missing_tensors_are_not_made_up(checkpoint, sounds):
    """A checkpoint that lacks a tensor is refused; random numbers never take its place."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(checkpoint / "model.safetensors")
    del tensors["encoder.layers.1.attention.k_proj.weight"]
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ViewError, match=r"lack 1 tensors of the model, encoder\.layers\.1"):
        extractors.load({"family": "transformers", "source": str(checkpoint)}).extract(sounds, 16_000)


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        ("config.json", "model_type", "bert", "expected a model_type among wav2vec2, .*, got 'bert'"),
        (
            "config.json",
            "transformers_weights",
            "b.safetensors",
            r"weights in model\.safetensors, config\.json names b",
        ),
        ("preprocessor_config.json", "sampling_rate", 8_000, "expected a model of 16000 Hz, got one of 8000 Hz"),
    ],
)
def test_other_models_are_refused(checkpoint, file, key, value, message):
    """A checkpoint of another kind is told at loading, before any weight is read."""
    settings = json.loads((checkpoint / file).read_text())
    (checkpoint / file).write_text(json.dumps(settings | {key: value}))
    with pytest.raises(ViewError, match=message):
        extractors.load({"family": "transformers", "source": str(checkpoint)})


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_code_that_comes_with_a_checkpoint_is_refused(checkpoint, file):
    """A repository that asks for `trust_remote_code` is told apart at loading, whichever of its files says so."""
    settings = json.loads((checkpoint / file).read_text()) | {"auto_map": {"AutoModel": "own.Model"}}
    (checkpoint / file).write_text(json.dumps(settings))
    with pytest.raises(ViewError, match=r"its auto_map names own\.Model, which is never run"):
        extractors.load({"family": "transformers", "source": str(checkpoint)})


def test_quantised_weights_are_refused(checkpoint):
    """They need another library, and are no longer the published model."""
    settings = json.loads((checkpoint / "config.json").read_text()) | {"quantization_config": {"load_in_4bit": True}}
    (checkpoint / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ViewError, match=r"config\.json has a quantization_config; choose the checkpoint"):
        extractors.load({"family": "transformers", "source": str(checkpoint)})


def test_random_noise_in_the_preprocessor_is_refused(tmp_path):
    """Whisper's dither would make every value another one the next time."""
    folder = shutil.copytree(folder_of("whisper"), tmp_path / "checkpoint")
    settings = json.loads((folder / "preprocessor_config.json").read_text()) | {"dither": 1e-4}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ViewError, match=r"adds random noise \(dither\)"):
        extractors.load({"family": "transformers", "source": str(folder)})


def test_the_preprocessor_decides_on_normalisation(checkpoint, sounds, relative_error):
    """Where the checkpoint says so, loudness does not matter; where it does not, it does; the fingerprint tells."""
    loud = extractors.load({"family": "transformers", "source": str(checkpoint)})
    quiet = loud.extract([sounds[0] * 0.1], 16_000)[0].pooled
    assert relative_error(quiet, loud.extract(sounds[:1], 16_000)[0].pooled) < 1e-2
    settings = json.loads((checkpoint / "preprocessor_config.json").read_text())
    (checkpoint / "preprocessor_config.json").write_text(json.dumps(settings | {"do_normalize": False}))
    plain = extractors.load({"family": "transformers", "source": str(checkpoint)})
    assert plain.fingerprint["preprocessing"] != loud.fingerprint["preprocessing"]
