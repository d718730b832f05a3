"""What a checkpoint in Hugging Face's layout says of itself, and in which of its files.

Several files may say the same thing, and which of them counts is for transformers to decide: whoever loads the
checkpoint without Strata must get the same model. Its precedence, of version 5:

- **Model**: config.json, or the file that its `configuration_files` names for the version at hand.
- **Preprocessor**: `feature_extractor` (else `audio_processor`) within processor_config.json, where transformers 5
  writes it; preprocessor_config.json where there is none.
- **Tokenizer**: tokenizer.json, or the file that `fast_tokenizer_files` in tokenizer_config.json names for the version
  at hand; where it is absent, the vocabulary of the tokenizer's class. Beside it tokenizer_config.json. And
  added_tokens.json with special_tokens_map.json, unless tokenizer_config.json has an `added_tokens_decoder`, in whose
  presence they are not read.

What counts is in the fingerprint, and what does not count is not. Reads JSON; loads no model and no tokenizer.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from strata.extractors import families
from strata.extractors.contract import SAMPLING_RATE, ViewError
from strata.extractors.sources import Checkpoint, refuse_code
from strata.extractors.transformers.checkpoints import WEIGHTS, transformers

PREPROCESSOR = ("preprocessor_config.json", "processor_config.json")
"""Files of which one must be there to say what the model hears."""
OPTIONAL = (*PREPROCESSOR, "config.*.json")
"""What may count beside config.json and whichever of `PREPROCESSOR` is there."""
TOKENIZER_CONFIG = "tokenizer_config.json"
_LEGACY = ("added_tokens.json", "special_tokens_map.json")
TOKENIZER_OPTIONAL = (TOKENIZER_CONFIG, *_LEGACY, "merges.txt", "tokenizer.*.json", "config.*.json")
"""What may count beside a tokenizer's vocabulary."""


def read_json(path: Path, source: str) -> dict[str, Any]:
    """The settings in a JSON file of a checkpoint.

    Raises:
        ViewError: it is not there or not JSON, or asks for code of the checkpoint's own to be run.
    """
    settings = _parse(path, source)
    refuse_code(settings, source)
    return settings


def _parse(path: Path, source: str) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ViewError(
            f"source {source!r}: expected {path.name} in {path.parent}, found none; put it there"
        ) from error
    except ValueError as error:
        raise ViewError(f"source {source!r}: {path.name} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ViewError(f"source {source!r}: expected an object of settings in {path.name}, got {str(settings)[:40]}")
    return settings


def read_settings(checkpoint: Checkpoint, source: str, model_types: Collection[str], family: str) -> dict[str, Any]:
    """What config.json says, of a model that is known here.

    Args:
        checkpoint: where it lies.
        source: for messages.
        model_types: those that are expected.
        family: that was named for it.

    Raises:
        ViewError: it is another model, its weights are elsewhere or quantised, or see `read_json`.
    """
    settings = read_json(checkpoint.folder / "config.json", source)
    if versions := settings.get("configuration_files"):
        settings = read_json(
            checkpoint.folder / Path(transformers.configuration_utils.get_configuration_file(versions)).name, source
        )
    model_type = settings.get("model_type")
    if model_type not in model_types:
        raise ViewError(
            f"source {source!r}: expected a model_type among {', '.join(model_types)} in config.json, "
            f"got {model_type!r}{families.hint(families.of_type(model_type), family)}"
        )
    if (named := settings.get("transformers_weights")) not in (None, *WEIGHTS):
        raise ViewError(
            f"source {source!r}: expected its weights in {WEIGHTS[0]}, config.json names {named}; rename it"
        )
    if settings.get("quantization_config"):
        raise ViewError(
            f"source {source!r}: expected weights in a plain number format, config.json has a quantization_config; "
            "choose the checkpoint that it was made from"
        )
    return settings


def read_preprocessor(folder: Path, source: str, kind: str) -> dict[str, Any]:
    """What is done to a waveform before the model hears it, of a model that hears at 16 kHz and always the same.

    Args:
        folder: of the checkpoint.
        source: for messages.
        kind: name of the class in transformers that the settings are for.

    Raises:
        ViewError: it is of another rate or class, adds noise, is nowhere, or see `read_json`.
    """
    place, settings = _preprocessor(folder, source)
    if (named := settings.get("feature_extractor_type") or kind) != kind:
        raise ViewError(f"source {source!r}: expected a feature_extractor_type of {kind} in {place}, got {named}")
    if (rate := settings.get("sampling_rate", SAMPLING_RATE)) != SAMPLING_RATE:
        raise ViewError(f"source {source!r}: expected a model of {SAMPLING_RATE} Hz, got one of {rate} Hz ({place})")
    if settings.get("dither"):
        raise ViewError(
            f"source {source!r}: its preprocessor adds random noise (dither), which no value that is kept may depend "
            f"on; set dither to 0 in {place}"
        )
    return settings


def _preprocessor(folder: Path, source: str) -> tuple[str, dict[str, Any]]:
    """The file that counts, and what it says."""
    flat, within = PREPROCESSOR
    if (folder / within).is_file():
        said = _parse(folder / within, source)
        # Older files of this name say nothing of a preprocessor, and then nobody reads them.
        if (nested := said.get("feature_extractor", said.get("audio_processor"))) is not None:
            refuse_code(said, source)
            if not isinstance(nested, dict):
                raise ViewError(
                    f"source {source!r}: expected settings as feature_extractor in {within}, got {str(nested)[:40]}"
                )
            refuse_code(nested, source)
            return within, nested
    if not (folder / flat).is_file():
        raise ViewError(
            f"source {source!r}: expected {flat}, or a feature_extractor in {within}, in {folder}, found none; put "
            "what is missing there"
        )
    return flat, read_json(folder / flat, source)


def tokenizer_settings(folder: Path, source: str) -> dict[str, Any]:
    """What tokenizer_config.json says; nothing where there is none.

    Raises:
        ViewError: see `read_json`.
    """
    path = folder / TOKENIZER_CONFIG
    return read_json(path, source) if path.is_file() else {}


def tokenizer_files(checkpoint: Checkpoint, source: str, vocabulary: Sequence[str]) -> list[Path]:
    """All files that a tokenizer follows from, and no other.

    Args:
        checkpoint: where it lies.
        source: for messages.
        vocabulary: names of the files that its class reads where there is no tokenizer.json.

    Raises:
        ViewError: what it needs is not there, or see `read_json`.
    """
    folder = checkpoint.folder
    settings = tokenizer_settings(folder, source)
    versions = settings.get("fast_tokenizer_files") or []
    whole = Path(transformers.tokenization_utils_base.get_fast_tokenizer_file(versions)).name
    main = [whole] if (folder / whole).is_file() else list(vocabulary)
    if not main or (lacking := [name for name in main if not (folder / name).is_file()]):
        needed = f"{whole} or {', '.join(lacking)}" if main else whole
        raise ViewError(f"source {source!r}: expected {needed} in {folder}, found none; put what is missing there")
    legacy = () if "added_tokens_decoder" in settings else _LEGACY
    names = [*sorted({*main, *legacy}), TOKENIZER_CONFIG]
    return [folder / name for name in names if (folder / name).is_file()]
