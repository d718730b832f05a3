"""Writes the miniatures of this package's models (`extractors.miniatures`) as checkpoints in Hugging Face's layout."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from extractors import miniatures
from extractors.transformers.checkpoints import SPEECH_MODELS, TEXT_MODELS, quiet, transformers


def make_miniature(name: str, folder: Path) -> None:
    """Writes the miniature of that name into a folder, as a checkpoint in Hugging Face's layout."""
    settings, do_normalize = miniatures.TRANSFORMERS[name]
    is_whisper = settings["model_type"] == "whisper"
    config_class, model_class = SPEECH_MODELS[settings["model_type"]]
    if is_whisper:
        model_class = transformers.WhisperForConditionalGeneration  # as the real ones: the decoder included
        preprocessor = transformers.WhisperFeatureExtractor()
    else:
        preprocessor = transformers.Wav2Vec2FeatureExtractor(
            do_normalize=do_normalize, return_attention_mask=settings["feat_extract_norm"] == "layer"
        )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(miniatures.seed(name))
        model = model_class(config_class.from_dict(dict(settings)))
        if not is_whisper:
            _tune_front_end(model.feature_extractor)
        model.save_pretrained(folder)
        if name == "emotion":
            _add_regression_head(model, folder)
    preprocessor.save_pretrained(folder)


def _add_regression_head(model: torch.nn.Module, folder: Path) -> None:
    """Writes the weights anew as audEERING has them: the encoder below its own name, and the head."""
    width, labels = model.config.hidden_size, model.config.num_labels
    tensors = {f"wav2vec2.{key}": tensor.contiguous() for key, tensor in model.state_dict().items()}
    for part, outputs in (("dense", width), ("out_proj", labels)):
        layer = torch.nn.Linear(width, outputs)
        tensors |= {f"classifier.{part}.{key}": tensor.detach() for key, tensor in layer.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def make_text_miniature(name: str, folder: Path) -> None:
    """Writes the miniature language model of that name, with a tokenizer that spells every word."""
    settings = dict(miniatures.TEXT[name])
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = [*special, *letters, *(f"##{letter}" for letter in letters), *".,'-"]
    tokenizer = transformers.BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    tokenizer.model_max_length = settings["max_position_embeddings"]
    config_class, model_class = TEXT_MODELS[settings["model_type"]]
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(miniatures.seed(name))
        model_class(config_class.from_dict(settings | {"vocab_size": len(words)})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def _tune_front_end(front_end: torch.nn.Module) -> None:
    """Gives a miniature's convolutions ears: random band-pass filters, then channels that mostly keep to themselves.

    Trained front ends have learned such filters. Independent random taps are all broadband instead, and mixed seven
    times over they leave nothing of the spectrum that a head could learn from.
    """
    first, *rest = (layer.conv for layer in front_end.conv_layers)
    channels, _, taps = first.weight.shape
    frequencies = torch.rand(channels).sort().values.mul(0.45).add(0.01)[:, None]  # cycles per sample
    times = torch.arange(taps) - (taps - 1) / 2
    phases = 2 * torch.pi * torch.rand(channels)[:, None]
    first.weight.copy_(
        (torch.cos(2 * torch.pi * frequencies * times + phases) * torch.hann_window(taps + 2)[1:-1]).unsqueeze(1)
    )
    for conv in rest:
        own = torch.eye(conv.out_channels, conv.in_channels).unsqueeze(2) / conv.kernel_size[0]
        conv.weight.mul_(0.1).add_(own)
