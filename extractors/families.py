"""Which family a model belongs to, told by what its files are: for the messages of those who named another.

Opens config.json and nothing else; imports no library of any family.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from strata.extractors import miniatures

SPEECH_TYPES = ("wav2vec2", "hubert", "wavlm", "unispeech-sat", "whisper")
"""`model_type` in config.json of the speech models that are known here."""
TEXT_TYPES = ("bert", "distilbert", "roberta", "xlm-roberta")
"""The same of language models."""
RECOGNISER = "recogniser"
"""Stands for a family where a section of `transcribe` names the model."""

_BY_FILE = {"embedding_model.ckpt": "speechbrain", "saved_model.pb": "tfhub"}
_BY_TYPE = dict.fromkeys(SPEECH_TYPES, "transformers") | dict.fromkeys(TEXT_TYPES, "text")
_BY_MINIATURE = {
    **dict.fromkeys(miniatures.TRANSFORMERS, "transformers"),
    **dict.fromkeys(miniatures.TEXT, "text"),
    **dict.fromkeys(miniatures.SPEECHBRAIN, "speechbrain"),
    **dict.fromkeys(miniatures.TFHUB, "tfhub"),
}


def of_type(model_type: object) -> str | None:
    """The family of models whose config.json says so; None where no family knows them."""
    return _BY_TYPE.get(str(model_type))


def of_miniature(name: str) -> str | None:
    """The family of `miniature:<name>`; None where there is none of that name."""
    return _BY_MINIATURE.get(name)


def of_folder(folder: Path) -> str | None:
    """The family of a checkpoint's folder; None where its files do not tell."""
    for name, family in _BY_FILE.items():
        if (folder / name).is_file():
            return family
    try:
        return of_type(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def of_files(names: Sequence[str]) -> str | None:
    """The family of a repository that offers files of these names; None where they do not tell."""
    return next((family for name, family in _BY_FILE.items() if name in names), None)


def hint(found: str | None, asked: str | None) -> str:
    """How a message about a model of the family `found` ends, where `asked` was named for it; empty where the two are
    the same, or one of them is not known."""
    if None in (found, asked) or found == asked:
        return ""
    if asked == RECOGNISER:
        return f"; only a Whisper makes texts: this is a model for a view, `family: {found}`"
    return f"; this is a model of family {found}: write `family: {found}`"
