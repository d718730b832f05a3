"""Checkpoints in Hugging Face's layout: their tensors, and the models and tokenizers made of them. Runs no model.

Weights are safetensors, or pickles read with `weights_only`; code that comes with a checkpoint is never run. The
families of this package meet transformers here, so that it is imported in one way.
"""

import logging
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from strata.extractors.contract import ViewError
from strata.extractors.sources import Checkpoint

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Weight files in the order in which transformers prefers them; an index stands for its shards. Others, such as the
adapters of MMS, are neither fetched nor read."""
SPEECH_MODELS = {
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
    "hubert": (transformers.HubertConfig, transformers.HubertModel),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
    "unispeech-sat": (transformers.UniSpeechSatConfig, transformers.UniSpeechSatModel),
    "whisper": (transformers.WhisperConfig, transformers.models.whisper.modeling_whisper.WhisperEncoder),
}
"""Configuration and encoder of speech models by `model_type` of config.json."""
TEXT_MODELS = {
    "bert": (transformers.BertConfig, transformers.BertModel),
    "distilbert": (transformers.DistilBertConfig, transformers.DistilBertModel),
    "roberta": (transformers.RobertaConfig, transformers.RobertaModel),
    "xlm-roberta": (transformers.XLMRobertaConfig, transformers.XLMRobertaModel),
}
"""The same of language models."""


def read_tensors(checkpoint: Checkpoint, source: str) -> dict[str, Tensor]:
    """All tensors of the files that the fingerprint hashes, by name.

    transformers is given these and not the folder, where it would take up adapters and the like by itself.

    Raises:
        ViewError: the files hold more than tensors.
    """
    tensors = {}
    try:
        for path in checkpoint.preferred(WEIGHTS):
            if path.suffix != ".json":
                tensors |= transformers.modeling_utils.load_state_dict(path, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ViewError(
            f"source {source!r}: its weights hold more than tensors and were not loaded; convert them to safetensors"
        ) from error
    return tensors


def load_tokenizer(tokenizer_class: type, files: Sequence[Path], source: str, **how: object) -> Any:
    """A tokenizer made of these files and no others.

    Of what else lies beside them transformers would look at some: so it is given a folder with copies of those that the
    fingerprint hashes.

    Raises:
        ViewError: it cannot be made of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            shutil.copy(file, folder)
        try:
            return tokenizer_class.from_pretrained(folder, local_files_only=True, **how)
        except Exception as error:  # whatever its parsers raise
            names = ", ".join(file.name for file in files)
            raise ViewError(
                f"source {source!r}: no tokenizer can be made of {names} ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]})"
            ) from error


def load_model(
    model_class: type,
    config: Any,
    tensors: dict[str, Tensor],
    source: str,
    *,
    unused: frozenset[str] = frozenset(),
    **how,
) -> nn.Module:
    """A model around the tensors, in eval mode and float32.

    Args:
        model_class: of transformers.
        config: its configuration.
        tensors: by name, with or without the prefix of the base model; those that the model lacks are left out.
        source: for messages.
        unused: names of tensors that may be missing, because no output depends on them.
        how: passed on to `from_pretrained`.

    Raises:
        ViewError: tensors of the model are missing.
    """
    with quiet():
        model, report = model_class.from_pretrained(
            None,
            state_dict=tensors,
            config=config,
            dtype=torch.float32,
            attn_implementation="sdpa" if model_class._supports_sdpa else "eager",
            output_loading_info=True,
            **how,
        )
    # transformers fills what is missing with random numbers.
    if missing := sorted(set(report["missing_keys"]) - unused):
        raise ViewError(
            f"source {source!r}: its weights lack {len(missing)} tensors of the model, {missing[0]} among them"
        )
    return model.eval().requires_grad_(False)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers from listing the tensors that a cut model or a bare encoder leaves unread, and its bar."""
    verbosity, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
