"""audEERING's emotion model: its mean and its logits are those of the call on its model card."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from strata import extractors
from strata.extractors.contract import ViewError
from tests.extractors.folders import folder_of

VIEW = {"family": "transformers", "source": "miniature:emotion", "layers": ["last_hidden_state"]}


class Head(nn.Module):
    """dense → tanh → out_proj."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, pooled):
        """Logits [batch, labels] of means [batch, dim]."""
        return self.out_proj(torch.tanh(self.dense(pooled)))


class Official(transformers.Wav2Vec2PreTrainedModel):
    """The model as its authors run it: wav2vec 2.0, mean over time, head."""

    def __init__(self, config):
        super().__init__(config)
        self.wav2vec2 = transformers.Wav2Vec2Model(config)
        self.classifier = Head(config)
        self.post_init()

    def forward(self, input_values):
        """Means and logits of normalised waveforms [batch, samples]."""
        pooled = self.wav2vec2(input_values).last_hidden_state.mean(dim=1)
        return pooled, self.classifier(pooled)


@pytest.fixture(scope="module")
def folder():
    """Where the miniature lies."""
    return folder_of("emotion")


@pytest.fixture(scope="module")
def official(folder):
    """Mean and logits of one waveform, by the checkpoint's own processor and the authors' kind of class."""
    model = Official.from_pretrained(folder).eval()
    processor = transformers.AutoFeatureExtractor.from_pretrained(folder)

    def call(waveform):
        inputs = processor(waveform, sampling_rate=16_000, return_tensors="pt")
        with torch.inference_mode():
            return tuple(output[0].numpy() for output in model(inputs["input_values"]))

    return call


def test_mean_and_logits_are_the_authors(load, official, sounds, relative_error):
    """In a padded batch: `er` is the mean, `vad` the same with three logits behind it."""
    er, vad = load(**VIEW), load(**VIEW, logits=True)
    assert (er.dim, vad.dim, vad.frame_dim) == (48, 51, 48)
    for waveform, plain, more in zip(sounds, er.extract(sounds, 16_000), vad.extract(sounds, 16_000), strict=True):
        pooled, logits = official(waveform)
        assert relative_error(plain.pooled, pooled[None]) < 1e-4
        np.testing.assert_array_equal(more.pooled[:, :48], plain.pooled)
        np.testing.assert_allclose(more.pooled[0, 48:], logits, atol=1e-5)


def test_logits_of_long_audio_are_of_its_mean(load, sound):
    """Windows change nothing: the head is asked once, about the whole."""
    from safetensors.torch import load_file

    long = sound(16_000 * 9)
    extractor = extractors.load(VIEW | {"logits": True, "window_s": 3, "overlap_s": 1}, device="cpu")
    pooled = extractor.extract([long], 16_000)[0].pooled[0]
    tensors = {name: value.numpy() for name, value in load_file(extractor.checkpoint / "model.safetensors").items()}
    hidden = np.tanh(tensors["classifier.dense.weight"] @ pooled[:48] + tensors["classifier.dense.bias"])
    logits = tensors["classifier.out_proj.weight"] @ hidden + tensors["classifier.out_proj.bias"]
    np.testing.assert_allclose(pooled[48:], logits, atol=1e-5)


def test_the_two_views_are_told_apart(load):
    """With and without logits are two stores."""
    assert load(**VIEW).fingerprint != load(**VIEW, logits=True).fingerprint


def test_logits_need_the_head_and_the_last_hidden_state(load, sounds, folder, tmp_path):
    """A model without the head, and layers that the head was not made for, are refused."""
    with pytest.raises(ViewError, match=r"logits: true goes with layers: \[last_hidden_state\] alone"):
        load(**VIEW | {"layers": "all"}, logits=True)
    with pytest.raises(ViewError, match=r"lack classifier\.dense\.weight"):
        load(**VIEW | {"source": "miniature:xls-r"}, logits=True).extract(sounds, 16_000)


def test_a_head_of_another_width_than_the_labels(folder, tmp_path, sounds):
    """What config.json announces is what a store is made for."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    settings = json.loads((copy / "config.json").read_text()) | {"id2label": {"0": "arousal", "1": "valence"}}
    settings.pop("label2id", None)
    (copy / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ViewError, match=r"as many labels .* as its regression head has outputs, 3, got 2"):
        extractors.load(VIEW | {"source": str(copy), "logits": True}).extract(sounds, 16_000)


def test_its_other_layers_are_those_of_any_wav2vec2(load, folder, tmp_path, sounds, relative_error):
    """Without logits it is a wav2vec 2.0 like any other, all layers included."""
    plain = shutil.copytree(folder, tmp_path / "plain")
    transformers.Wav2Vec2Model.from_pretrained(folder).save_pretrained(plain)
    found = load(family="transformers", source="miniature:emotion").extract(sounds[:1], 16_000)[0]
    expected = load(family="transformers", source=str(plain)).extract(sounds[:1], 16_000)[0]
    assert relative_error(found.pooled, expected.pooled) < 1e-6
