"""What the PyTorch families share: the device, strict float32, and a torchaudio that can be imported.

Knows no model.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch

from extractors.contract import ViewError


def resolve_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first GPU where there is one, else the CPU.

    Raises:
        ViewError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ViewError(f"expected a device such as auto, cpu or cuda:0, got {name!r}, which is not there") from error


def batch_seconds(batch_s: float | None, device: torch.device) -> float:
    """Most seconds of audio in a batch: as asked for, or what keeps the device busy without filling its memory."""
    if batch_s is not None:
        return batch_s
    # A few seconds of a full-size model keep a CPU busy; larger batches leave its caches (measured: 10 to 20 % slower).
    return 8.0 if device.type == "cpu" else 480.0


@contextmanager
def strict_float32() -> Iterator[None]:
    """Inference in true float32.

    By default cuDNN computes convolutions in TF32, whose ten bits of mantissa are far from the 1e-4 that is promised
    between one device or batch and another.
    """
    knobs = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [knob.fp32_precision for knob in knobs]
    try:
        for knob in knobs:
            knob.fp32_precision = "ieee"
        with torch.inference_mode():
            yield
    finally:
        for knob, precision in zip(knobs, before, strict=True):
            knob.fp32_precision = precision


def without_compiled_torchaudio() -> None:
    """Lets torchaudio be imported where its compiled half does not fit the installed torch.

    transformers' speech models and SpeechBrain import torchaudio, of which there is no CPU build: loading its library
    fails and takes the importer down with it. Only its Python half is ever used here, so the module that loads the
    library is replaced by one that says that there is none. Call this before the first of those imports.
    """
    if "torchaudio" in sys.modules:
        return
    stand_in = ModuleType("torchaudio._extension")
    stand_in._IS_TORCHAUDIO_EXT_AVAILABLE = False
    stand_in._IS_ALIGN_AVAILABLE = False
    stand_in.fail_if_no_align = lambda function: function
    sys.modules.setdefault("torchaudio._extension", stand_in)
