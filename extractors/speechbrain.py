"""SpeechBrain's x-vector: one embedding per utterance, from a time-delay network over filterbanks.

Reads checkpoints in the layout of `speechbrain/spkrec-xvect-voxceleb` and hands over the embedding of
`EncoderClassifier.encode_batch`, before any normalisation of it.

SpeechBrain describes a model in `hyperparams.yaml`, which can name any Python object and is executed on loading. Here
it is only compared (`extractors.speechbrain_yaml`): the network is built below, its sizes taken from the tensors of
`embedding_model.ckpt`, which are all that is loaded. That leaves out two things of the original on purpose: its
statistics pooling adds random noise (of about 5e-5) even in eval mode, and its batches are padded, to which neither its
normalisation nor its reflecting convolutions are indifferent; here only equal lengths share a batch.

Source: Snyder et al., *X-vectors: robust DNN embeddings for speaker recognition*, ICASSP 2018; SpeechBrain 1.1,
`lobes/models/Xvector.py`, `processing/features.py` and `nnet/pooling.py`.
"""

import pickle
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from math import log10
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.extractors import miniatures
from strata.extractors.batching import run_halving
from strata.extractors.contract import SAMPLING_RATE, HiddenStates, Size, ViewError
from strata.extractors.sources import find, hash_files
from strata.extractors.speechbrain_yaml import DILATIONS, FILE_NAME, check
from strata.extractors.torch_setup import TorchExtractor, inference, to_device
from strata.extractors.view import SpeechBrainView
from strata.extractors.windows import FrameGrid, plan

WEIGHTS = "embedding_model.ckpt"

_N_FFT, _HOP = 400, 160  # a Hamming window of 25 ms every 10 ms
_TOP_DB, _AMIN = 80.0, 1e-10  # floor of the filterbanks, below the utterance's loudest band and absolutely
_STATISTICS_EPS = 1e-5  # added to the standard deviation by SpeechBrain's statistics pooling
_CHUNK_FRAMES = 6000  # a minute: what bounds the memory that a long file takes


class XVectorExtractor(TorchExtractor):
    """SpeechBrain's x-vector, without its noise."""

    layer_names = ("embedding",)
    frame_layers = ()
    frame_rate_hz = 0.0
    min_samples = 3 * _HOP  # four frames: the widest convolution reflects three
    _bytes_per_s = 4e6  # 100 frames of 1500 channels, a few of them alive at a time

    def __init__(self, view: SpeechBrainView, *, device: str, batch_s: float | None, folder: Path = Path()):
        super().__init__(device, batch_s)
        self._view = view
        self._checkpoint = find(
            view.source,
            view.revision,
            needed=[(WEIGHTS,)],
            optional=[FILE_NAME],
            miniatures=miniatures.SPEECHBRAIN,
            make_miniature=make_miniature,
            folder=folder,
            family="speechbrain",
        )
        self.checkpoint = self._checkpoint.folder
        self._announced_bands = check(self.checkpoint, view.source)

    @property
    def dim(self) -> int:
        """Width of the embedding, 512 in the published model. Reads the weights."""
        return self._network.output.out_features

    @cached_property
    def fingerprint(self) -> dict[str, object]:
        """See `Extractor.fingerprint`. A local directory's path is not part of it: `weights` identifies it. Nor is
        hyperparams.yaml, which can change no value: what it may say is settled."""
        return {
            "family": "speechbrain",
            "source": self._checkpoint.source,
            "revision": self._checkpoint.revision,
            "weights": hash_files(self._checkpoint.files((WEIGHTS,))),
            "preprocessing": f"{SAMPLING_RATE} Hz mono; log-mel filterbanks less their mean over the utterance",
            "masking": "equal lengths only",
            "compute_dtype": "float32",
            "layers": list(self.layer_names),
            "frames": [],
            "pooling": "mean and standard deviation within the network, without noise",
        }

    @cached_property
    def size(self) -> Size:
        """See `Extractor.size`. Reads the weights; nothing is ever cut."""
        parameters = sum(parameter.numel() for parameter in self._network.parameters())
        return Size(parameters, parameters, torch.float32.itemsize)

    def _extract(self, waveforms: Sequence[np.ndarray]) -> list[HiddenStates]:
        results: list[HiddenStates | None] = [None] * len(waveforms)

        def compute(batch: list[int]) -> None:
            with inference():
                stacked = to_device(np.stack([waveforms[index] for index in batch]), self._device)
                embeddings = self._network(filterbanks(stacked, self._network.num_bands)).cpu().numpy()
            for index, embedding in zip(batch, embeddings, strict=True):
                results[index] = HiddenStates(embedding[None], num_frames=0)

        self._batch_samples = run_halving([len(w) for w in waveforms], self._batch_samples, compute, equal_only=True)
        return results

    @cached_property
    def _network(self) -> "XVector":
        path = self._checkpoint.folder / WEIGHTS
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ViewError(
                f"source {self._view.source!r}: {WEIGHTS} holds more than tensors and was not loaded"
            ) from error
        try:
            network = XVector.from_tensors(tensors)
        except (KeyError, RuntimeError, AttributeError) as error:
            raise ViewError(
                f"source {self._view.source!r}: expected the tensors of SpeechBrain's Xvector in {WEIGHTS}, got others"
            ) from error
        if self._announced_bands not in (None, network.num_bands):
            raise ViewError(
                f"source {self._view.source!r}: expected n_mels {network.num_bands} in {FILE_NAME}, as wide as the "
                f"first convolution in {WEIGHTS}, found {self._announced_bands}; take both from one checkpoint"
            )
        return network.eval().requires_grad_(False).to(self._device)


def filterbanks(waveforms: Float[Tensor, "batch samples"], num_bands: int) -> Float[Tensor, "batch frames {num_bands}"]:
    """Log-mel filterbanks less their mean over each utterance.

    Equals SpeechBrain's `Fbank(n_mels=num_bands)` followed by `InputNormalization(norm_type="sentence",
    std_norm=False)`, in pieces so that a long file's spectrogram never exists whole.

    Args:
        waveforms: at 16 kHz, of equal length.
        num_bands: of the filterbank.

    Returns:
        Values in dB, with frames = samples // 160 + 1.
    """
    window = torch.hamming_window(_N_FFT, device=waveforms.device)
    bands = _mel_bands(num_bands).to(waveforms.device)
    padded = nn.functional.pad(waveforms, (_N_FFT // 2, _N_FFT // 2))
    num_frames = waveforms.shape[1] // _HOP + 1
    pieces = []
    for start in range(0, num_frames, _CHUNK_FRAMES):
        stop = min(start + _CHUNK_FRAMES, num_frames)
        piece = padded[:, start * _HOP : (stop - 1) * _HOP + _N_FFT]
        spectrum = torch.stft(piece, _N_FFT, _HOP, window=window, center=False, return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        pieces.append(power.transpose(1, 2) @ bands)
    decibels = 10.0 * torch.log10(torch.cat(pieces, dim=1).clamp(min=_AMIN))
    loudest = decibels.amax(dim=(1, 2), keepdim=True)
    decibels = torch.maximum(decibels, loudest - _TOP_DB)
    return decibels - decibels.mean(dim=1, keepdim=True)


def _mel_bands(num_bands: int) -> Float[Tensor, "bins {num_bands}"]:
    """SpeechBrain's triangular filters: as wide on both sides as the distance to the band below."""
    mel = torch.linspace(0.0, 2595.0 * log10(1.0 + SAMPLING_RATE / 2 / 700.0), num_bands + 2)
    edges = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    width, centre = (edges[1:] - edges[:-1])[:-1], edges[1:-1]
    frequencies = torch.linspace(0.0, SAMPLING_RATE // 2, _N_FFT // 2 + 1)
    slope = (frequencies[:, None] - centre) / width
    return torch.minimum(slope + 1.0, 1.0 - slope).clamp(min=0.0)


class XVector(nn.Module):
    """The time-delay network: convolutions that reflect at the edges, statistics over time, one linear layer."""

    def __init__(self, channels: Sequence[int], kernels: Sequence[int], dim: int):
        super().__init__()
        self.num_bands = channels[0]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(inputs, outputs, kernel, dilation=dilation, padding="same", padding_mode="reflect")
            for (inputs, outputs), kernel, dilation in zip(pairwise(channels), kernels, DILATIONS, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(outputs) for outputs in channels[1:])
        self.output = nn.Linear(2 * channels[-1], dim)
        self._context = sum(dilation * (kernel - 1) // 2 for kernel, dilation in zip(kernels, DILATIONS, strict=True))

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "XVector":
        """Builds the network around the tensors of SpeechBrain's `Xvector`, which numbers convolution, activation and
        norm of all layers in one list."""
        depth = len(DILATIONS)
        weights = [tensors[f"blocks.{3 * index}.conv.weight"] for index in range(depth)]
        output = f"blocks.{3 * depth + 1}.w"  # after the statistics pooling, which has no tensors
        channels = [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
        network = cls(channels, [weight.shape[2] for weight in weights], tensors[f"{output}.weight"].shape[0])
        for index in range(depth):
            for module, name in ((network.convolutions[index], "conv"), (network.norms[index], "norm")):
                prefix = f"blocks.{3 * index + (2 if name == 'norm' else 0)}.{name}."
                module.load_state_dict({key: tensors[prefix + key] for key in module.state_dict()})
        network.output.load_state_dict({key: tensors[f"{output}.{key}"] for key in network.output.state_dict()})
        return network

    def forward(self, features: Float[Tensor, "batch frames {self.num_bands}"]) -> Float[Tensor, "batch dim"]:
        """Embeddings of filterbanks.

        Convolutions see no further than a few frames, so long audio goes through in pieces with that much context, and
        the statistics are put together from theirs: the same to within rounding as all at once.
        """
        pieces = plan(features.shape[1], FrameGrid(1, 1), _CHUNK_FRAMES, 2 * self._context)
        count, mean, squares = 0, 0.0, 0.0
        for piece in pieces:
            hidden = features[:, piece.start : piece.stop].transpose(1, 2)
            for convolution, norm in zip(self.convolutions, self.norms, strict=True):
                hidden = norm(nn.functional.leaky_relu(convolution(hidden)))
            hidden = hidden[:, :, piece.first : piece.last]
            count, mean, squares = _joined(count, mean, squares, hidden)
        deviation = (squares / (count - 1)).sqrt() + _STATISTICS_EPS
        return self.output(torch.cat([mean, deviation], dim=1).float())


def _joined(count: int, mean: Tensor | float, squares: Tensor | float, hidden: Tensor) -> tuple[int, Tensor, Tensor]:
    """Number, mean and sum of squared deviations [batch, channels] of frames seen so far and of `hidden`'s.

    Source: Chan, Golub, LeVeque, *Updating formulae and a pairwise algorithm for computing sample variances*, 1979.
    """
    more = hidden.shape[2]
    variance, more_mean = torch.var_mean(hidden, dim=2, correction=0)
    variance, more_mean = variance.double(), more_mean.double()
    difference, total = more_mean - mean, count + more
    return (
        total,
        mean + difference * (more / total),
        squares + variance * more + difference.square() * (count * more / total),
    )


def make_miniature(name: str, folder: Path) -> None:
    """Writes the miniature x-vector as a checkpoint in SpeechBrain's layout."""
    channels, kernels, dim = [24, 64, 64, 64, 64, 192], [5, 3, 3, 1, 1], 128
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(miniatures.seed(name))
        network = XVector(channels, kernels, dim)
    tensors = {f"blocks.{3 * len(kernels) + 1}.w.{key}": value for key, value in network.output.state_dict().items()}
    for index, (convolution, norm) in enumerate(zip(network.convolutions, network.norms, strict=True)):
        tensors |= {f"blocks.{3 * index}.conv.{key}": value for key, value in convolution.state_dict().items()}
        tensors |= {f"blocks.{3 * index + 2}.norm.{key}": value for key, value in norm.state_dict().items()}
    torch.save(tensors, folder / WEIGHTS)
    (folder / "hyperparams.yaml").write_text(
        "# Only SpeechBrain builds from this file; Strata builds the network itself and compares.\n"
        "compute_features: !new:speechbrain.lobes.features.Fbank\n"
        f"    n_mels: {channels[0]}\n"
        "embedding_model: !new:speechbrain.lobes.models.Xvector.Xvector\n"
        f"    in_channels: {channels[0]}\n"
        "    activation: !name:torch.nn.LeakyReLU\n"
        f"    tdnn_blocks: {len(kernels)}\n"
        f"    tdnn_channels: {channels[1:]}\n"
        f"    tdnn_kernel_sizes: {kernels}\n"
        f"    tdnn_dilations: {list(DILATIONS)}\n"
        f"    lin_neurons: {dim}\n"
        "mean_var_norm: !new:speechbrain.processing.features.InputNormalization\n"
        "    norm_type: sentence\n"
        "    std_norm: False\n",
        encoding="utf-8",
    )
