"""Writes the miniatures of this package's models (`extractors.miniatures`) as checkpoints in Hugging Face's layout."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from strata.extractors import miniatures
from strata.extractors.transformers.checkpoints import SPEECH_MODELS, TEXT_MODELS, quiet, transformers

_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_OTHERS = ("red", "green", "blue", "black", "white", "north", "south", "east", "west", "up", "down", "left", "right")
_WORDS = (*_NUMBERS, *_OTHERS, "yes", "no", "stop", "go")
"""What the miniature Whisper can say."""
_LANGUAGES = ("en", "fr", "it")
_TASKS = ("translate", "transcribe")
_SPECIAL = [
    f"<|{name}|>"
    for name in (
        *("endoftext", "startoftranscript", *_LANGUAGES, *_TASKS),
        *("startoflm", "startofprev", "nospeech", "notimestamps"),
    )
]
_TIMES = [f"<|{i * 0.02:.2f}|>" for i in range(1501)]


def make_miniature(name: str, folder: Path) -> None:
    """Writes the miniature of that name into a folder, as a checkpoint in Hugging Face's layout."""
    settings, do_normalize = miniatures.TRANSFORMERS[name]
    is_whisper = settings["model_type"] == "whisper"
    config_class, model_class = SPEECH_MODELS[settings["model_type"]]
    if is_whisper:
        model_class = transformers.WhisperForConditionalGeneration  # as the real ones: the decoder included
        preprocessor = transformers.WhisperFeatureExtractor()
        tokenizer = _tokenizer()
        numbers = tokenizer.convert_tokens_to_ids
        end = numbers("<|endoftext|>")
        settings = {
            **settings,
            "vocab_size": len(tokenizer),
            **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), end),
            "decoder_start_token_id": numbers("<|startoftranscript|>"),
        }
    else:
        preprocessor = transformers.Wav2Vec2FeatureExtractor(
            do_normalize=do_normalize, return_attention_mask=settings["feat_extract_norm"] == "layer"
        )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(miniatures.seed(name))
        model = model_class(config_class.from_dict(dict(settings)))
        if is_whisper:
            _tune_decoder(model.model.decoder, times=numbers(_TIMES[0]), end=end)
            model.generation_config = _generation_config(settings, numbers)
            tokenizer.save_pretrained(folder)
        else:
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


def _tokenizer() -> transformers.WhisperTokenizer:
    """A Whisper tokenizer of a few words, with the special tokens and times of the multilingual ones."""
    tokenizer = transformers.WhisperTokenizer(vocab={f"Ġ{word}": i for i, word in enumerate(_WORDS)}, merges=[])
    for tokens, special in ((_SPECIAL, True), (_TIMES, False)):
        tokenizer.add_tokens(
            [transformers.AddedToken(token, special=special, normalized=False) for token in tokens],
            special_tokens=special,
        )
    return tokenizer


def _generation_config(settings: dict[str, object], numbers) -> transformers.GenerationConfig:
    """As the multilingual checkpoints have it."""
    same = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    return transformers.GenerationConfig.from_dict(
        {key: settings[key] for key in same}
        | {
            "begin_suppress_tokens": [settings["eos_token_id"]],
            "is_multilingual": True,
            "lang_to_id": {f"<|{code}|>": numbers(f"<|{code}|>") for code in _LANGUAGES},
            "max_initial_timestamp_index": 50,
            "max_length": settings["max_target_positions"],
            "no_timestamps_token_id": numbers("<|notimestamps|>"),
            "prev_sot_token_id": numbers("<|startofprev|>"),
            "return_timestamps": False,
            "suppress_tokens": [numbers(token) for token in _SPECIAL if token != "<|endoftext|>"],
            "task_to_id": {task: numbers(f"<|{task}|>") for task in _TASKS},
        }
    )


@torch.no_grad()
def _tune_decoder(decoder: torch.nn.Module, times: int, end: int) -> None:
    """Teaches a miniature Whisper the manners of trained ones: it says times, the tokens from `times` on, only where it
    is asked for them, says other words at other places, and comes to an end the sooner the longer it has talked."""
    tokens, positions = decoder.embed_tokens.weight, decoder.embed_positions.weight
    tokens[times:].mul_(0.1)
    tokens[end].normal_(std=tokens[:times].std().item())  # as the padding's it was left at zero
    positions.mul_(5).add_(0.3 * torch.arange(len(positions))[:, None] * tokens[end])


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
