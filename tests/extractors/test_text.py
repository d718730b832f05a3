"""Language models on transcripts: the values of a plain call, of every text alone, whatever its length."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers

from strata import extractors
from strata.extractors.contract import TextExtractor, UnusableText, ViewError
from strata.extractors.miniatures import TEXT, miniature
from strata.extractors.transformers.miniature import make_text_miniature

VIEW = {"family": "text", "source": "miniature:bert"}
TEXTS = ["he said so", "a", "the quick brown fox jumps over the lazy dog", "Ünïcode, 漢字 and don't!", "he said so?"]


@pytest.fixture
def folder():
    """Where the miniature lies."""
    return miniature("miniature:bert", tuple(TEXT), make_text_miniature)


def plain_call(folder, text):
    """All hidden states [layers, tokens, dim] that Hugging Face's own classes give for one text."""
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        output = transformers.AutoModel.from_pretrained(folder).eval()(**tokens, output_hidden_states=True)
    return torch.stack(output.hidden_states)[:, 0].numpy()


def test_layers_and_tokens_are_those_of_a_plain_call(load, folder, relative_error):
    """Pooled and kept, in a padded batch, special tokens included."""
    extractor = load(**VIEW, frames=[0, 4])
    assert isinstance(extractor, TextExtractor)
    for text, states in zip(TEXTS, extractor.extract(TEXTS), strict=True):
        expected = plain_call(folder, text)
        assert states.num_frames == expected.shape[1]
        assert relative_error(states.pooled, expected.mean(axis=1)) < 1e-4
        for layer in (0, 4):
            assert relative_error(states.frames[str(layer)], expected[layer]) < 1e-4


def test_alone_is_as_in_any_batch(load, relative_error):
    """In every layer, in any order, at any batch size."""
    extractor = load(**VIEW)
    together = extractor.extract(TEXTS)
    backwards = extractor.extract(TEXTS[::-1])[::-1]
    for text, one, other in zip(TEXTS, together, backwards, strict=True):
        alone = extractor.extract([text])[0]
        assert relative_error(one.pooled, alone.pooled) < 1e-5
        assert relative_error(other.pooled, alone.pooled) < 1e-5
        assert one.num_frames == alone.num_frames


def test_a_text_beyond_the_model_is_not_cut(load, folder):
    """Every one of its tokens is kept once, and its first piece begins as in a plain call."""
    words = "speak the word as it is written and no other " * 12
    extractor = load(**VIEW, frames=[4])
    (states,) = extractor.extract([words])
    ids = transformers.AutoTokenizer.from_pretrained(folder)(words, truncation=False)["input_ids"]
    limit = TEXT["bert"]["max_position_embeddings"]
    assert len(ids) > 3 * limit
    assert states.num_frames == len(states.frames["4"]) == len(ids)
    first = plain_call(folder, transformers.AutoTokenizer.from_pretrained(folder).decode(ids[1 : limit - 1]))
    np.testing.assert_allclose(states.frames["4"][: limit - 1], first[4][: limit - 1], atol=1e-4)


def test_a_cut_model_gives_the_same_layers(load, relative_error):
    """`upto` leaves those below unchanged."""
    whole, cut = (load(**VIEW, **more).extract(TEXTS) for more in ({}, {"layers": {"upto": 2}}))
    for one, other in zip(whole, cut, strict=True):
        assert relative_error(other.pooled, one.pooled[:3]) < 1e-6


@pytest.mark.parametrize("text", ["", "  \n"])
def test_no_word_no_value(load, text):
    """A blank text is refused with a reason, before anything is computed."""
    with pytest.raises(UnusableText, match="empty"):
        load(**VIEW).extract(["a", text])


def test_fingerprint_is_of_the_model_and_not_of_the_columns(load):
    """What one column's texts give is what another's do."""
    assert load(**VIEW).fingerprint == load(**VIEW, columns=("transcript_asr", "transcript")).fingerprint
    assert load(**VIEW).fingerprint != load(**VIEW, layers=[0]).fingerprint
    assert load(**VIEW).fingerprint != load(**VIEW, frames=[1]).fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": {"upto": 9}}, "expected layers 0 to 4"),
        ({"layers": ["last_hidden_state"]}, "last_hidden_state is the highest layer of a language model"),
        ({"source": "miniature:wavlm"}, "expected miniature:bert for this family"),
        ({"columns": []}, "columns"),
        ({"columns": ["emotion"]}, "columns: expected transcript or transcript_<name of a recogniser>, got emotion"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(settings, message):
    """With what was expected."""
    with pytest.raises(ViewError, match=message):
        extractors.load(VIEW | settings)


@pytest.mark.parametrize("model_type", ["roberta", "distilbert"])
def test_kin_of_bert(model_type, folder, tmp_path, relative_error):
    """RoBERTa's positions begin after its padding, DistilBERT names its layers otherwise: the same code reads both,
    also a text that fills every position."""
    from strata.extractors.transformers.checkpoints import TEXT_MODELS

    config_class, model_class = TEXT_MODELS[model_type]
    names = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if model_type == "distilbert":
        names = {"dim": 24, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    config = config_class(
        vocab_size=100, max_position_embeddings=34, pad_token_id=1 if model_type == "roberta" else 0, **names
    )
    model_class(config).save_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(tmp_path)
    extractor = extractors.load({"family": "text", "source": str(tmp_path), "frames": [2]}, device="cpu")
    short, long = extractor.extract(["so it is", "all the words that there are and then some more of them"])
    assert relative_error(short.pooled, plain_call(tmp_path, "so it is").mean(axis=1)) < 1e-4
    assert long.num_frames > 34
    assert np.isfinite(long.frames["2"]).all()


def test_stray_files_of_a_tokenizer_are_neither_hashed_nor_read(folder, tmp_path, relative_error):
    """Nor the vocabulary that tokenizer.json replaces, nor what an `added_tokens_decoder` does (see test_settings)."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps(settings | {"added_tokens_decoder": {}}))
    plain = extractors.load({"family": "text", "source": str(copy)}, device="cpu")
    expected = plain.extract(TEXTS)[0].pooled
    (copy / "special_tokens_map.json").write_text('{"cls_token": "a", "sep_token": "b"}')
    (copy / "added_tokens.json").write_text('{"said": 7}')
    (copy / "vocab.txt").write_text("a\nb\n")
    (copy / "tokenizer.999.0.0.json").write_text("{}")
    found = extractors.load({"family": "text", "source": str(copy)}, device="cpu")
    assert found.fingerprint == plain.fingerprint
    assert relative_error(found.extract(TEXTS)[0].pooled, expected) < 1e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokenizer_class": "RagTokenizer"}, "expected a tokenizer_class among BertTokenizer, .*, got RagTokenizer"),
        ({"tokenizer_class": "RobertaTokenizerFast"}, None),
    ],
)
def test_only_tokenizers_that_are_known_are_made(settings, message, folder, tmp_path):
    """Others are told at loading."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    old = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps(old | settings))
    if message is None:
        extractors.load({"family": "text", "source": str(copy)})
    else:
        with pytest.raises(ViewError, match=message):
            extractors.load({"family": "text", "source": str(copy)})


def test_a_tokenizer_of_an_unnamed_class_is_that_of_the_model(folder, tmp_path, relative_error):
    """Older checkpoints, bert-base-uncased among them, leave tokenizer_class out: their other settings count all the
    same, as in a plain call."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "model_max_length": 64}))
    extractor = extractors.load({"family": "text", "source": str(copy)}, device="cpu")
    official = transformers.AutoTokenizer.from_pretrained(copy)
    assert type(extractor._tokenizer) is type(official)
    (states,) = extractor.extract(["Hello World"])
    assert relative_error(states.pooled, plain_call(copy, "Hello World").mean(axis=1)) < 1e-4


def test_a_tokenizer_that_cannot_be_read(folder, tmp_path):
    """Is one line, whatever its parser says."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(ViewError, match=r"no tokenizer can be made of tokenizer\.json, tokenizer_config\.json \("):
        extractors.load({"family": "text", "source": str(copy)}).extract(TEXTS)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_checkpoint_is_refused(file, folder, tmp_path):
    """Whichever of its files asks for it."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    settings = json.loads((copy / file).read_text()) | {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}
    (copy / file).write_text(json.dumps(settings))
    with pytest.raises(ViewError, match=r"its auto_map names own\.Tokenizer, which is never run"):
        extractors.load({"family": "text", "source": str(copy)})
