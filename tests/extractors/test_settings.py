"""Of several files that say how a checkpoint hears or reads, the one counts that transformers takes: its own call is
the oracle. What counts is in the fingerprint, what does not count is not."""

import json
import shutil

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import errors

from strata import extractors
from strata.extractors.contract import ViewError
from strata.extractors.families import SPEECH_TYPES, TEXT_TYPES
from strata.extractors.sources import find
from strata.extractors.transformers.checkpoints import SPEECH_MODELS, TEXT_MODELS
from strata.extractors.transformers.settings import OPTIONAL, PREPROCESSOR


@pytest.fixture
def copy(load, tmp_path):
    """A copy of a miniature's checkpoint, to be changed."""

    def copy(family, name):
        return shutil.copytree(load(family=family, source=f"miniature:{name}").checkpoint, tmp_path / name)

    return copy


@pytest.fixture
def speech(copy):
    """A copy of the miniature wav2vec 2.0, whose preprocessor normalises."""
    return copy("transformers", "wav2vec2")


@pytest.fixture
def text(copy):
    """A copy of the miniature BERT."""
    return copy("text", "bert")


def edit(path, **values):
    """Writes other values into a JSON file; None removes a key."""
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({key: value for key, value in (content | values).items() if value is not None}))


def nest(folder, key="feature_extractor", **values):
    """Writes processor_config.json as transformers 5 does, the preprocessor's settings with other values within."""
    flat = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({key: flat | values, "processor_class": "AProcessor"}))


def fingerprint(folder, family="transformers"):
    """Of the checkpoint in a folder."""
    return extractors.load({"family": family, "source": str(folder)}, device="cpu").fingerprint


def hear(folder, sound):
    """The layers of one sound, pooled."""
    return extractors.load({"family": "transformers", "source": str(folder)}, device="cpu").extract([sound], 16_000)[0]


def official(folder, sound):
    """The same by a plain call."""
    inputs = transformers.AutoFeatureExtractor.from_pretrained(folder)(sound, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        model = transformers.AutoModel.from_pretrained(folder).eval()
        hidden = model(inputs["input_values"], output_hidden_states=True).hidden_states
    return np.stack([layer[0].mean(dim=0).numpy() for layer in hidden])


@pytest.mark.parametrize("key", ["feature_extractor", "audio_processor"])
@pytest.mark.parametrize("beside", [True, False])
def test_the_nested_preprocessor_counts(key, beside, speech, sounds, relative_error):
    """With preprocessor_config.json beside it, which says the opposite, and without: values and fingerprint are those
    of the nested one."""
    plain = fingerprint(speech)
    nest(speech, key, do_normalize=False)
    if not beside:
        (speech / "preprocessor_config.json").unlink()
    loud = sounds[0] * 3
    assert relative_error(hear(speech, loud).pooled, official(speech, loud)) < 1e-4
    found = fingerprint(speech)
    assert "normalisation: none" in found["preprocessing"]
    assert {key for key in plain if plain[key] != found[key]} == {"config", "preprocessing"}


def test_only_the_file_that_counts_is_in_the_fingerprint(speech):
    """A nested preprocessor hides preprocessor_config.json; a processor_config.json that nests none is not read."""
    plain = fingerprint(speech)
    (speech / "processor_config.json").write_text(
        '{"processor_class": "Wav2Vec2Processor", "auto_map": {"A": "own.A"}}'
    )
    assert fingerprint(speech) == plain
    (speech / "processor_config.json").write_text('{"feature_extractor": null}')
    assert fingerprint(speech) == plain
    nest(speech)
    assert fingerprint(speech) == plain  # the very same settings
    edit(speech / "preprocessor_config.json", do_normalize=False)
    assert fingerprint(speech) == plain
    nest(speech, do_normalize=False)
    assert fingerprint(speech) != plain


def test_a_recogniser_takes_the_nested_preprocessor_too(load, tmp_path):
    """The same rule for Whisper's spectrogram."""
    folder = shutil.copytree(load(family="transformers", source="miniature:whisper").checkpoint, tmp_path / "whisper")
    plain = extractors.load_recogniser({"source": str(folder)}).fingerprint
    nest(folder)
    (folder / "preprocessor_config.json").unlink()
    assert extractors.load_recogniser({"source": str(folder)}).fingerprint == plain
    nested = json.loads((folder / "processor_config.json").read_text())
    nested["feature_extractor"]["padding_value"] = 0.25
    (folder / "processor_config.json").write_text(json.dumps(nested))
    assert extractors.load_recogniser({"source": str(folder)}).fingerprint["config"] != plain["config"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampling_rate": 8_000}, r"got one of 8000 Hz \(processor_config\.json\)"),
        ({"dither": 1e-4}, r"set dither to 0 in processor_config\.json"),
        ({"auto_map": {"AutoFeatureExtractor": "own.Extractor"}}, r"auto_map names own\.Extractor, which is never run"),
        (
            {"feature_extractor_type": "ASTFeatureExtractor"},
            "of Wav2Vec2FeatureExtractor in processor_config.json, got",
        ),
    ],
)
def test_what_is_refused_of_a_preprocessor_is_refused_of_a_nested_one(values, message, speech):
    """By the name of the file that counts."""
    nest(speech, **values)
    with pytest.raises(ViewError, match=message):
        fingerprint(speech)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "{}",
            r"expected preprocessor_config\.json, or a feature_extractor in processor_config\.json, in .* found none",
        ),
        ("{", r"processor_config\.json is not JSON"),
        ("[]", r"expected an object of settings in processor_config\.json, got \[\]"),
        ('{"feature_extractor": "x"}', "expected settings as feature_extractor in processor_config.json, got x"),
    ],
)
def test_a_preprocessor_that_is_nowhere(content, message, speech):
    """One line, with the two places where it may be."""
    (speech / "preprocessor_config.json").unlink()
    (speech / "processor_config.json").write_text(content)
    with pytest.raises(ViewError, match=message):
        fingerprint(speech)


def test_the_configuration_of_this_version_counts(speech, sounds, relative_error):
    """A config.json that names files by version is read as the one of the version at hand."""
    whole = fingerprint(speech)
    (speech / "config.json").rename(speech / "config.4.0.0.json")
    later = {"model_type": "wav2vec2", "hidden_size": 7}
    (speech / "config.999.0.0.json").write_text(json.dumps(later))
    names = ["config.4.0.0.json", "config.999.0.0.json"]
    (speech / "config.json").write_text(json.dumps(later | {"configuration_files": names}))
    assert fingerprint(speech) == whole
    assert relative_error(hear(speech, sounds[0]).pooled, official(speech, sounds[0])) < 1e-4
    edit(speech / "config.4.0.0.json", layer_norm_eps=1e-3)
    assert fingerprint(speech) != whole
    (speech / "config.4.0.0.json").unlink()
    with pytest.raises(ViewError, match=r"expected config\.4\.0\.0\.json in .*found none"):
        fingerprint(speech)


def tokens(folder):
    """What the extractor's tokenizer makes of a text, and what transformers makes of it in the same folder."""
    extractor = extractors.load({"family": "text", "source": str(folder)}, device="cpu")
    by_hand = transformers.AutoTokenizer.from_pretrained(folder)
    return [tokenizer("so it is said")["input_ids"] for tokenizer in (extractor._tokenizer, by_hand)]


@pytest.mark.parametrize(
    ("name", "content"),
    [("special_tokens_map.json", {"cls_token": "a", "sep_token": "b"}), ("added_tokens.json", {"said": 7})],
)
def test_special_tokens_beside_a_tokenizer_count_where_transformers_reads_them(name, content, text):
    """Unless tokenizer_config.json has an `added_tokens_decoder`: then they are stray files."""
    plain, (before, _) = fingerprint(text, "text"), tokens(text)
    (text / name).write_text(json.dumps(content))
    found, expected = tokens(text)
    assert found == expected != before
    assert fingerprint(text, "text") != plain
    edit(text / "tokenizer_config.json", added_tokens_decoder={})
    decoded = fingerprint(text, "text")
    found, expected = tokens(text)
    assert found == expected == before
    (text / name).unlink()
    assert fingerprint(text, "text") == decoded


def test_the_tokenizer_of_this_version_counts(text):
    """The file that `fast_tokenizer_files` names for the version at hand, and not tokenizer.json."""
    content = (text / "tokenizer.json").read_text()
    (text / "tokenizer.4.0.0.json").write_text(content.replace('"lowercase": true', '"lowercase": false'))
    plain = fingerprint(text, "text")
    edit(text / "tokenizer_config.json", fast_tokenizer_files=["tokenizer.json", "tokenizer.4.0.0.json"])
    versioned = fingerprint(text, "text")
    assert versioned != plain
    (text / "tokenizer.json").write_text("{}")
    assert fingerprint(text, "text") == versioned
    found, expected = tokens(text)
    assert found == expected


@pytest.mark.parametrize("config", [True, False])
def test_a_tokenizer_of_its_vocabulary_alone(config, text):
    """Older checkpoints have vocab.txt and no tokenizer.json, some of them no tokenizer_config.json either."""
    vocabulary = json.loads((text / "tokenizer.json").read_text())["model"]["vocab"]
    (text / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)))
    with_both = fingerprint(text, "text")
    (text / "tokenizer.json").unlink()
    if not config:
        (text / "tokenizer_config.json").unlink()
    before = fingerprint(text, "text")
    assert before != with_both
    found, expected = tokens(text)
    assert found == expected
    (text / "vocab.txt").write_text((text / "vocab.txt").read_text() + "\nsaid")
    assert fingerprint(text, "text") != before
    found, expected = tokens(text)
    assert found == expected
    (text / "vocab.txt").unlink()
    (text / "vocab.json").write_text("{}")  # another class's
    with pytest.raises(ViewError, match=r"expected tokenizer\.json or vocab\.txt in .*, found none"):
        fingerprint(text, "text")


def test_the_class_of_a_tokenizer_is_asked_of_config_json_last(text):
    """As transformers does: one that is not known here is told by the file that names it."""
    edit(text / "config.json", tokenizer_class="BertJapaneseTokenizer")
    assert fingerprint(text, "text")
    edit(text / "tokenizer_config.json", tokenizer_class=None)
    with pytest.raises(ViewError, match=r"among BertTokenizer, .* in config\.json, got BertJapaneseTokenizer"):
        fingerprint(text, "text")


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """A hub's snapshot of a speech model that somebody cached without processor_config.json, which the hub has."""
    commit, cache = "0123abcd" * 5, tmp_path / "hub"
    folder = cache / "models--owner--model" / "snapshots" / commit
    folder.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    return folder


def test_a_cached_snapshot_is_completed(snapshot, monkeypatch):
    """The file that may count is asked for once, by the snapshot's own commit; what the hub does not have is no
    error; where the hub cannot be asked the snapshot is what there is."""
    asked = []

    def download(source, name, *, revision):
        asked.append((source, name, revision))
        if len(asked) == 1:
            raise OSError("no network")
        (snapshot / name).write_text("{}")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    how = {"needed": [("config.json",), PREPROCESSOR], "optional": OPTIONAL, "miniatures": (), "make_miniature": None}
    assert find("owner/model", None, **how).folder == snapshot
    assert not (snapshot / "processor_config.json").exists()
    assert find("owner/model", None, **how).folder == snapshot
    assert (snapshot / "processor_config.json").exists()
    assert find("owner/model", None, **how).folder == snapshot
    assert asked == [("owner/model", "processor_config.json", snapshot.name)] * 2


def test_what_the_hub_has_not_is_no_error(snapshot, monkeypatch):
    """Most repositories have no processor_config.json."""
    asked = []

    def download(source, name, *, revision):
        asked.append(name)
        raise errors.EntryNotFoundError.__new__(errors.EntryNotFoundError)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    wanted = ["processor_config.json", "more.json"]
    find("owner/model", None, needed=[("config.json",)], optional=wanted, miniatures=(), make_miniature=None)
    assert asked == wanted


def test_a_model_of_another_family_is_told_which(text, speech, tmp_path):
    """By its miniature's name, by the files in its folder, and by config.json; nothing is told where nothing is
    known, or where the family is right."""
    (tmp_path / "xvector").mkdir()
    (tmp_path / "xvector/embedding_model.ckpt").touch()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/saved_model.pb").touch()
    shutil.copy(speech / "preprocessor_config.json", text)  # so that config.json tells
    for asked, source, family in [
        ("transformers", "miniature:bert", "text"),
        ("text", "miniature:wavlm", "transformers"),
        ("speechbrain", "miniature:trillsson", "tfhub"),
        ("transformers", str(text), "text"),
        ("text", str(speech), "transformers"),
        ("speechbrain", str(speech), "transformers"),
        ("speechbrain", str(text), "text"),
        ("transformers", str(tmp_path / "xvector"), "speechbrain"),
        ("text", str(tmp_path / "saved"), "tfhub"),
    ]:
        with pytest.raises(ViewError, match=f"this is a model of family {family}: write `family: {family}`") as caught:
            fingerprint(source, asked)
        assert "\n" not in str(caught.value)
    with pytest.raises(ViewError, match=r"only a Whisper makes texts: this is a model for a view, `family: text`"):
        extractors.load_recogniser({"source": "miniature:bert"})
    edit(speech / "config.json", model_type="gpt2")
    with pytest.raises(ViewError, match=r"got 'gpt2'$"):
        fingerprint(speech)
    assert set(SPEECH_TYPES) == set(SPEECH_MODELS)
    assert set(TEXT_TYPES) == set(TEXT_MODELS)


def test_a_cached_model_of_another_family_is_told_which(snapshot):
    """Before the hub is asked for a file that it cannot have."""
    (snapshot / "preprocessor_config.json").unlink()
    (snapshot / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(ViewError, match=r"owner/model: expected preprocessor_config\.json .*write `family: text`"):
        fingerprint("owner/model")
