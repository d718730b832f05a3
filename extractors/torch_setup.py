"""What the PyTorch families share: the device, what fits on it, the number format, a torchaudio that can be imported.

Knows no model: a family's own file says which network it runs.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import ModuleType

import numpy as np
import torch
from torch import nn

from strata.extractors.contract import SAMPLING_RATE, AudioExtractor, ViewError


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


def batch_seconds(batch_s: float | None, device: torch.device, bytes_per_s: float) -> float:
    """Most seconds of audio in a batch: as asked for, or what keeps the device busy without filling its memory.

    Args:
        batch_s: as asked for; None lets the device decide.
        device: on which the model lies already.
        bytes_per_s: what a second of audio takes while the model computes, roughly.
    """
    if batch_s is not None:
        return batch_s
    if device.type != "cuda":
        # A few seconds of a full-size model keep a CPU busy; larger batches leave its caches (measured: 10 to 20 %
        # slower).
        return 8.0
    return fitting_seconds(free_bytes(device), bytes_per_s)


def free_bytes(device: torch.device) -> int:
    """Of a GPU's memory: what nobody has, and what PyTorch holds for later, which a model that ran before has left."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def fitting_seconds(free_bytes: float, bytes_per_s: float) -> float:
    """Seconds of audio that a device with so much free memory takes at once: up to four minutes, beyond which no chip
    is any busier (an H100 is less so), and never less than one window's worth, since a batch that does not fit is
    halved anyway."""
    return min(240.0, max(10.0, 0.6 * free_bytes / bytes_per_s))


class TorchExtractor(AudioExtractor):
    """An extractor that hears with a network of PyTorch's."""

    _network: nn.Module
    """On the device; asking loads the weights."""
    _bytes_per_s: float
    """What a second of audio takes while the network computes, roughly."""

    def __init__(self, device: str, batch_s: float | None):
        self._device = resolve_device(device)
        self.device = str(self._device)
        self._asked_batch_s = batch_s

    @property
    def batch_s(self) -> float:
        """See `Extractor.batch_s`."""
        return self._batch_samples / SAMPLING_RATE

    @cached_property
    def _batch_samples(self) -> float:
        """Most samples of a batch; halved where one does not fit."""
        self._network  # noqa: B018  (what is free is asked once the weights are there)
        return SAMPLING_RATE * batch_seconds(self._asked_batch_s, self._device, self._bytes_per_s)


DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""What weights and activations are in, by `compute_dtype`; TF32 only shortens the factors of products."""


@contextmanager
def inference(compute_dtype: str = "float32") -> Iterator[None]:
    """Inference in true float32, or with the factors of matrix products and convolutions shortened to TF32.

    By default cuDNN computes convolutions in TF32, whose ten bits of mantissa are far from the 1e-4 that is promised
    between one device or batch and another: so it is switched on only where `compute_dtype` asks for it. And where
    somebody has allowed a CPU to shorten factors to bfloat16, that is off.

    So is cuDNN's fused attention, beside which PyTorch has two others: it plans anew for every shape and keeps all
    plans for as long as a thread lives, and processes in which threads that had used it ended broke off, their heap
    spoilt.
    """
    on_gpu = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    knobs = (*on_gpu, torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul)
    before = [knob.fp32_precision for knob in knobs]
    cudnn_attends = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(False)
        for knob in knobs:
            knob.fp32_precision = "tf32" if compute_dtype == "tf32" and knob in on_gpu else "ieee"
        with torch.inference_mode():
            yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(cudnn_attends)
        for knob, precision in zip(knobs, before, strict=True):
            knob.fp32_precision = precision


def to_device(values: np.ndarray | Sequence, device: torch.device) -> torch.Tensor:
    """An array, or the one that a list makes, on the device. A copy to a GPU is from pinned memory, so that nobody
    waits for it."""
    tensor = torch.from_numpy(np.asarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on the host. From a GPU it is on its way into pinned memory: whoever reads it must wait for the stream,
    or for an event recorded behind this call."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def refuse_tf32(device: torch.device, compute_dtype: str) -> None:
    """Raises ViewError where TF32 is asked for and the device has none: it would compute float32, under a fingerprint
    that says otherwise."""
    has_it = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if compute_dtype == "tf32" and not has_it:
        raise ViewError(
            f"compute_dtype: tf32 needs an NVIDIA GPU from Ampere on, this is {device}: run it there, or write "
            "compute_dtype: float32"
        )


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
