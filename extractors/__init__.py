"""Audio, or text, to hidden states: frozen models of several families behind one contract (`extractors.contract`).

`load` makes the extractor of a view, `load_recogniser` what turns audio into text. Importing this package is light: a
family's libraries are imported when one of its views is loaded.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from strata.extractors.contract import (
    AudioExtractor,
    CheckpointAbsent,
    Extractor,
    HiddenStates,
    TextExtractor,
    UnusableAudio,
    ViewError,
)

if TYPE_CHECKING:
    from strata.extractors.transformers.recogniser import Recogniser

OWN_PROCESS = {"tfhub"}
"""Families whose library wants a process, and a GPU's memory, without PyTorch in it."""

NOTICES = {"opensmile": "openSMILE's licence forbids commercial use of its features"}
"""What users of a family's values must know, by family; said where they are computed and where they are reported."""

__all__ = [
    "NOTICES",
    "OWN_PROCESS",
    "AudioExtractor",
    "CheckpointAbsent",
    "Extractor",
    "HiddenStates",
    "TextExtractor",
    "UnusableAudio",
    "ViewError",
    "load",
    "load_recogniser",
]

_IMPLEMENTATIONS = {
    "transformers": ("strata.extractors.transformers.speech", "TransformersExtractor"),
    "text": ("strata.extractors.transformers.text", "LanguageModelExtractor"),
    "speechbrain": ("strata.extractors.speechbrain", "XVectorExtractor"),
    "tfhub": ("strata.extractors.tfhub", "SavedModelExtractor"),
    "mfcc": ("strata.extractors.mfcc", "MFCCExtractor"),
    "opensmile": ("strata.extractors.opensmile", "OpenSmileExtractor"),
}


def load(
    view: Mapping[str, object], *, device: str = "auto", batch_s: float | None = None, folder: str | Path = Path(".")
) -> Extractor:
    """Makes the extractor of a view. Finds the checkpoint and reads its configuration, but not yet its weights.

    Args:
        view: a section of `views` in params as a plain mapping, or a checked `extractors.view.View`.
        device: `cpu`, `cuda`, `cuda:1`, …; `auto` takes a GPU where there is one.
        batch_s: most seconds of audio in a batch, padding included; None lets the device decide. It changes speed and
            memory, never values.
        folder: the study's. A relative directory as the view's source begins there, and miniatures are kept in its
            `.strata/miniatures`, unless `$STRATA_CACHE` names another place. The fingerprint does not depend on it.

    Raises:
        ViewError: the view is wrong, its checkpoint cannot be used, or its extra is not installed.
        CheckpointAbsent: that of a view whose checkpoint cannot be found.

    Example:
        >>> extractor = load({"family": "mfcc"})
        >>> extractor.layer_names
        ('mfcc',)
    """
    from strata.extractors.view import parse  # pydantic is needed from here on only

    checked = parse(view)
    module, name = _IMPLEMENTATIONS[checked.family]
    return getattr(import_module(module), name)(checked, device=device, batch_s=batch_s, folder=Path(folder))


def load_recogniser(
    section: Mapping[str, object],
    *,
    device: str = "auto",
    batch_s: float | None = None,
    folder: str | Path = Path("."),
) -> "Recogniser":
    """Makes a speech recogniser. Finds the checkpoint and reads its settings, but not yet its weights.

    Args:
        section: one of `transcribe` in params as a plain mapping, or a checked
            `extractors.recogniser.RecogniserSection`.
        device: see `load`.
        batch_s: see `load`; a window counts as 30 s.
        folder: see `load`.

    Raises:
        ViewError: the section is wrong, or its checkpoint cannot be found or used.

    Example:
        >>> recogniser = load_recogniser({"source": "miniature:whisper", "language": "en"})
        >>> recogniser.fingerprint["language"]
        'en'
    """
    from strata.extractors.recogniser import parse

    checked = parse(section)
    recogniser = import_module("strata.extractors.transformers.recogniser")
    return recogniser.Recogniser(checked, device=device, batch_s=batch_s, folder=Path(folder))
