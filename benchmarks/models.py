"""Models of the published sizes with random weights, and the plain loop that extraction is held against."""

from collections.abc import Mapping, Sequence
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


def make_checkpoint(name: str, folder: Path, shape: Mapping[str, object] | None = None) -> Path:
    """Writes a model of that shape as a checkpoint in Hugging Face's layout; the folder that it lies in.

    Args:
        name: of the shape, and of the folder.
        folder: where that is made.
        shape: in the place of what is published.
    """
    shape = dict(SHAPES[name] if shape is None else shape)
    config_class, model_class = SPEECH_MODELS[shape["model_type"]]
    config = config_class.from_dict(shape)
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


def operations(name: str, num_samples: int) -> int:
    """Floating-point operations of a model of that shape on one utterance: two for every multiplication of its
    convolutions, its linear maps and its attention, without any padding."""
    config = SPEECH_MODELS[SHAPES[name]["model_type"]][0].from_dict(dict(SHAPES[name]))
    total, time, channels = 0, num_samples, 1
    for kernel, stride, outputs in zip(config.conv_kernel, config.conv_stride, config.conv_dim, strict=True):
        time = (time - kernel) // stride + 1
        total += time * outputs * channels * kernel
        channels = outputs
    width = config.hidden_size
    total += time * channels * width
    total += (time + 1) * width * (width // config.num_conv_pos_embedding_groups) * config.num_conv_pos_embeddings
    layer = 4 * time * width**2 + 2 * time * width * config.intermediate_size + 2 * time**2 * width
    if config.model_type == "wavlm":
        layer += 8 * time * width  # the gates of the position bias
    return 2 * (total + config.num_hidden_layers * layer)


class Loop:
    """What one writes first, with care: utterance by utterance, all hidden states averaged over time on the device."""

    def __init__(self, checkpoint: Path, device: torch.device, dtype: torch.dtype = torch.float32):
        with quiet():
            self._preprocessor = transformers.AutoFeatureExtractor.from_pretrained(checkpoint)
            self._model = transformers.AutoModel.from_pretrained(checkpoint).eval().to(device, dtype)
        self._device, self._dtype = device, dtype

    @torch.inference_mode()
    def extract(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Pooled layers [layers, dim] of each waveform [samples]."""
        results = []
        for waveform in waveforms:
            inputs = self._preprocessor(waveform, sampling_rate=SAMPLING_RATE, return_tensors="pt").input_values
            inputs = inputs.to(self._device, self._dtype)
            states = self._model(inputs, output_hidden_states=True).hidden_states
            results.append(torch.stack([state.mean(dim=1)[0] for state in states]).float().cpu().numpy())
        return results
