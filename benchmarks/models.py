"""Models of the published sizes with random weights, and the plain loop that extraction is held against."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from strata.extractors.contract import SAMPLING_RATE
from strata.extractors.transformers.checkpoints import SPEECH_MODELS, quiet, transformers

SHAPES = {
    "wav2vec2-base": {"model_type": "wav2vec2"},  # transformers' defaults are its sizes
    "WavLM-Large": {
        "model_type": "wavlm",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "conv_bias": False,
        "num_conv_pos_embeddings": 128,
        "num_conv_pos_embedding_groups": 16,
    },
}
"""What is published of each model's config.json, as far as it differs from the defaults."""


def make_checkpoint(name: str, folder: Path) -> Path:
    """Writes a model of that shape as a checkpoint in Hugging Face's layout; the folder that it lies in."""
    config_class, model_class = SPEECH_MODELS[SHAPES[name]["model_type"]]
    config = config_class.from_dict(dict(SHAPES[name]))
    preprocessor = transformers.Wav2Vec2FeatureExtractor(
        do_normalize=True, return_attention_mask=config.feat_extract_norm == "layer"
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        model_class(config).save_pretrained(folder / name)
    preprocessor.save_pretrained(folder / name)
    return folder / name


def sounds(seconds: Sequence[float]) -> list[np.ndarray]:
    """Noise under a slow envelope, float32 [samples] at 16 kHz, one of each duration."""
    rng = np.random.default_rng(0)
    waveforms = []
    for duration in seconds:
        noise = rng.normal(scale=0.1, size=round(duration * SAMPLING_RATE))
        envelope = 1.0 + np.sin(2 * np.pi * rng.uniform(1, 4) * np.arange(len(noise)) / SAMPLING_RATE)
        waveforms.append((envelope * noise).astype(np.float32))
    return waveforms


class Loop:
    """What one writes first: utterance by utterance, all hidden states of the model averaged over time."""

    def __init__(self, checkpoint: Path, device: torch.device):
        with quiet():
            self._preprocessor = transformers.AutoFeatureExtractor.from_pretrained(checkpoint)
            self._model = transformers.AutoModel.from_pretrained(checkpoint).eval().to(device)
        self._device = device

    @torch.no_grad()
    def extract(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Pooled layers [layers, dim] of each waveform [samples]."""
        results = []
        for waveform in waveforms:
            inputs = self._preprocessor(waveform, sampling_rate=SAMPLING_RATE, return_tensors="pt").to(self._device)
            states = self._model(inputs.input_values, output_hidden_states=True).hidden_states
            results.append(np.stack([state.mean(dim=1)[0].cpu().numpy() for state in states]))
        return results
