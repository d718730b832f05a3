"""Hidden states of Hugging Face models: wav2vec 2.0, XLS-R, MMS, HuBERT, WavLM, UniSpeech-SAT, Whisper's encoder.

Reads checkpoints in Hugging Face's layout and waveforms; hands over pooled layers. The one file that imports
transformers.

**Layers** are those of Hugging Face's `hidden_states`: "0" is the input of the first transformer layer, "i" the output
of layer i. Where the model ends in a layer norm, that is applied to the last of them or not, as transformers does it:

- wav2vec 2.0, HuBERT, WavLM, UniSpeech-SAT *base* normalise within each layer; there is nothing after the last one.
- Their *large* kin (`do_stable_layer_norm`) normalise once more at the end. The last hidden state is from **before**
  that norm; what comes after it is the layer `last_hidden_state`.
- Whisper normalises at the end as well, but its last hidden state **is** the normalised one, the same as
  `last_hidden_state`.

With `layers: {upto: N}`, or a list, the model is built without the layers above the highest one asked for; those kept
give the same values as in the whole model, since neither a final norm nor a tie then touches the last of them.

**Masking.** An attention mask accompanies every padded batch, group-norm front ends take their statistics over valid
samples (`extractors.group_norm`), and waveforms are normalised one by one, before padding, where the checkpoint's
preprocessor says so. Whisper has no mask: it sees 30 s of log-mel spectrogram always, and of its 1500 frames only the
ceil(samples / 320) that lie on audio count.

**Nothing foreign is executed**: safetensors, or pickles read with `weights_only`; code that comes with a checkpoint is
never run.
"""

import json
import logging
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from extractors import miniatures
from extractors.batching import buckets, run_halving
from extractors.contract import SAMPLING_RATE, Extractor, HiddenStates, ViewError
from extractors.group_norm import ValidGroupNorm, patch_front_end
from extractors.hidden_states import Tap, Totals
from extractors.sources import Checkpoint, find, hash_files, hash_settings
from extractors.torch_setup import batch_seconds, resolve_device, strict_float32, without_compiled_torchaudio
from extractors.view import LAST_HIDDEN_STATE, TransformersView, Upto
from extractors.wavlm_attention import patch_attention
from extractors.windows import FrameGrid, Window, plan

without_compiled_torchaudio()
import transformers  # noqa: E402  (imports torchaudio, see above)

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Weight files in the order in which transformers prefers them; an index stands for its shards. Others, such as the
adapters of MMS, are neither fetched nor read."""

_MODELS = {
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
    "hubert": (transformers.HubertConfig, transformers.HubertModel),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
    "unispeech-sat": (transformers.UniSpeechSatConfig, transformers.UniSpeechSatModel),
    "whisper": (transformers.WhisperConfig, transformers.models.whisper.modeling_whisper.WhisperEncoder),
}
_WHISPER_SECONDS = 30.0
_WHISPER_STRIDE = 320  # a hop of 160 samples, halved by the second convolution


class TransformersExtractor(Extractor):
    """One speech model of Hugging Face transformers."""

    def __init__(self, view: TransformersView, *, device: str, batch_s: float | None, folder: Path = Path()):
        self._view = view
        self._device = resolve_device(device)
        self._batch_samples = batch_seconds(batch_s, self._device) * SAMPLING_RATE
        self._checkpoint = find(
            view.source,
            view.revision,
            needed=[("config.json",), ("preprocessor_config.json",), WEIGHTS],
            miniatures=tuple(miniatures.TRANSFORMERS),
            make_miniature=make_miniature,
            folder=folder,
        )
        self.checkpoint = self._checkpoint.folder
        self._settings = _read_json(self._checkpoint.folder / "config.json", view.source)
        self._config, self._model_class = _configure(self._settings, view.source)
        self._is_whisper = self._config.model_type == "whisper"
        self._preprocessor = _read_preprocessor(self._checkpoint.folder, view.source)
        self._normalize = not self._is_whisper and self._preprocessor.get("do_normalize", True)

        depth = self._config.encoder_layers if self._is_whisper else self._config.num_hidden_layers
        self.layer_names = _resolve_layers(view, depth)
        self.frame_layers = tuple(str(layer) for layer in view.frames)
        if strangers := [name for name in self.frame_layers if name not in self.layer_names]:
            raise ViewError(f"frames: expected layers that are kept ({_range(self.layer_names)}), got {strangers}")
        highest = depth if LAST_HIDDEN_STATE in self.layer_names else max(int(name) for name in self.layer_names)
        self._cut = None if highest == depth else max(1, highest)  # layer "0" is seen at the door of the first layer

        self.dim = self._config.d_model if self._is_whisper else self._config.hidden_size
        self._grid = (
            FrameGrid(_WHISPER_STRIDE, receptive_field=1)
            if self._is_whisper
            else FrameGrid.of_convolutions(list(self._config.conv_kernel), list(self._config.conv_stride))
        )
        self.frame_rate_hz = SAMPLING_RATE / self._grid.stride
        self.min_samples = self._grid.receptive_field
        self._group_norm: ValidGroupNorm | None = None  # set with the weights
        self._window_s = min(view.window_s, _WHISPER_SECONDS) if self._is_whisper else view.window_s

    @cached_property
    def fingerprint(self) -> dict[str, object]:
        """See `Extractor.fingerprint`. A checkpoint's place on the disk is not part of it: `weights` and `config` are
        hashes of its files and identify it wherever it lies."""
        checkpoint = self._checkpoint
        if self._is_whisper:
            normalisation = "log-mel spectrogram of 30 s"
        else:
            normalisation = "zero mean and unit variance per utterance" if self._normalize else "none"
        return {
            "family": "transformers",
            "source": checkpoint.source,
            "revision": checkpoint.revision,
            "config": hash_settings(self._settings, self._preprocessor),
            "weights": hash_files(checkpoint.preferred(WEIGHTS)),
            "preprocessing": (
                f"{SAMPLING_RATE} Hz mono; normalisation: {normalisation}; "
                f"windows of {self._window_s:g} s, overlap {min(self._view.overlap_s, self._window_s / 2):g} s"
            ),
            "masking": "valid frames of 30 s" if self._is_whisper else "attention mask; group norm over valid samples",
            "compute_dtype": self._view.compute_dtype,
            "layers": list(self.layer_names),
            "frames": list(self.frame_layers),
            "pooling": "mean over valid frames",
        }

    def _extract(self, waveforms: Sequence[np.ndarray]) -> list[HiddenStates]:
        overlap_s = min(self._view.overlap_s, self._window_s / 2)
        window, overlap = (round(seconds * SAMPLING_RATE) for seconds in (self._window_s, overlap_s))
        pieces = [
            (utterance, piece)
            for utterance, waveform in enumerate(waveforms)
            for piece in plan(len(waveform), self._grid, window, overlap)
        ]
        moments = [_moments(waveform) if self._normalize else (0.0, 1.0) for waveform in waveforms]
        totals = Totals(len(waveforms), self.layer_names, self.frame_layers)

        def compute(batch: list[int]) -> None:
            utterances = [pieces[index][0] for index in batch]
            windows = [pieces[index][1] for index in batch]
            inputs = []
            for utterance, piece in zip(utterances, windows, strict=True):
                mean, scale = moments[utterance]
                inputs.append((waveforms[utterance][piece.start : piece.stop] - mean) / scale)
            with strict_float32():
                totals.add(utterances, self._run(inputs, windows))

        whole = round(_WHISPER_SECONDS * SAMPLING_RATE)
        lengths = [whole if self._is_whisper else piece.stop - piece.start for _, piece in pieces]
        run_halving(buckets(lengths, self._batch_samples, equal_only=self._padding_shows), compute)
        return totals.hidden_states()

    @property
    def _padding_shows(self) -> bool:
        # A batch norm before the positional convolution (as in multilingual HuBERT) turns the zeros of the padding into
        # something else, which the convolution then carries into valid frames.
        return bool(getattr(self._config, "conv_pos_batch_norm", False))

    def _run(self, inputs: Sequence[np.ndarray], windows: Sequence[Window]) -> Tap:
        """Runs the model over one batch of normalised windows [samples]."""
        # Whisper's last hidden state is what the final norm gives, not the last layer: see the module's docstring.
        tied = str(len(self._layers)) if self._is_whisper and self._cut is None else None
        tap = Tap(self.layer_names, self.frame_layers, windows)
        with tap.on(self._layers, but=tied):
            last = self._forward(inputs)
        tap.take(LAST_HIDDEN_STATE, last)
        if tied is not None:
            tap.take(tied, last)
        return tap

    def _forward(self, inputs: Sequence[np.ndarray]) -> torch.Tensor:
        """Runs the model; its last hidden state [batch, time, dim]."""
        if self._is_whisper:
            features = self._feature_extractor(inputs, sampling_rate=SAMPLING_RATE, return_tensors="pt")
            return self._model(features["input_features"].to(self._device)).last_hidden_state
        lengths = [len(waveform) for waveform in inputs]
        padded = np.zeros((len(inputs), max(lengths)), dtype=np.float32)
        for row, waveform in zip(padded, inputs, strict=True):
            row[: len(waveform)] = waveform
        is_padded = min(lengths) != max(lengths)
        mask = None
        if is_padded:
            time = torch.arange(max(lengths), device=self._device)
            mask = (time < torch.tensor(lengths, device=self._device)[:, None]).long()
        if self._group_norm is not None:
            first = FrameGrid.of_convolutions(list(self._config.conv_kernel[:1]), list(self._config.conv_stride[:1]))
            self._group_norm.valid_frames = [first.num_frames(length) for length in lengths] if is_padded else None
        return self._model(torch.from_numpy(padded).to(self._device), attention_mask=mask).last_hidden_state

    @cached_property
    def _model(self) -> nn.Module:
        model = _load_weights(self._model_class, self._config, self._checkpoint, self._view.source, self._cut)
        if self._config.model_type == "wavlm":
            patch_attention(model.encoder.layers)
        if not self._is_whisper:
            self._group_norm = patch_front_end(model.feature_extractor.conv_layers)
        return model.to(self._device)

    @property
    def _layers(self) -> nn.ModuleList:
        return self._model.layers if self._is_whisper else self._model.encoder.layers

    @cached_property
    def _feature_extractor(self) -> transformers.WhisperFeatureExtractor:
        return transformers.WhisperFeatureExtractor.from_dict(self._preprocessor)


def _configure(settings: dict[str, Any], source: str) -> tuple[Any, type]:
    """The configuration that config.json's settings make, and the class of the encoder."""
    model_type = settings.get("model_type")
    if model_type not in _MODELS:
        raise ViewError(
            f"source {source!r}: expected a model_type among {', '.join(_MODELS)} in config.json, got {model_type!r}"
        )
    if (named := settings.get("transformers_weights")) not in (None, *WEIGHTS):
        raise ViewError(
            f"source {source!r}: expected its weights in {WEIGHTS[0]}, config.json names {named}; rename it"
        )
    config_class, model_class = _MODELS[model_type]
    config = config_class.from_dict(settings)
    if model_type != "whisper":
        config.add_adapter = False  # it comes after the last hidden state and changes the number of frames
    return config, model_class


def _read_preprocessor(folder: Path, source: str) -> dict[str, Any]:
    settings = _read_json(folder / "preprocessor_config.json", source)
    if (rate := settings.get("sampling_rate", SAMPLING_RATE)) != SAMPLING_RATE:
        raise ViewError(f"source {source!r}: expected a model of {SAMPLING_RATE} Hz, got one of {rate} Hz")
    return settings


def _read_json(path: Path, source: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ViewError(f"source {source!r}: {path.name} is not JSON: {error}") from error


def _resolve_layers(view: TransformersView, depth: int) -> tuple[str, ...]:
    """Names of the layers that the view asks for, of a model whose hidden states are 0 … depth."""
    if view.layers == "all":
        return tuple(str(layer) for layer in range(depth + 1))
    asked = range(view.layers.upto + 1) if isinstance(view.layers, Upto) else view.layers
    if beyond := [layer for layer in asked if layer != LAST_HIDDEN_STATE and layer > depth]:
        raise ViewError(
            f"source {view.source!r}: expected layers 0 to {depth} or {LAST_HIDDEN_STATE}, got layer {beyond[-1]}"
        )
    return tuple(str(layer) for layer in asked)


def _range(names: Sequence[str]) -> str:
    return f"{names[0]} … {names[-1]}" if len(names) > 4 else ", ".join(names)


def _moments(waveform: np.ndarray) -> tuple[np.float32, np.float32]:
    """Mean and scale of `do_normalize`, as `Wav2Vec2FeatureExtractor` takes them: silence gives zeros, never NaN."""
    return waveform.mean(), np.sqrt(waveform.var() + np.float32(1e-7))


def _load_weights(model_class: type, config: Any, checkpoint: Checkpoint, source: str, cut: int | None) -> nn.Module:
    """The encoder in eval mode and float32, without the layers above `cut`.

    Raises:
        ViewError: the files hold more than tensors, or lack some of the model's.
    """
    config = type(config).from_dict(config.to_dict())
    if cut is not None:
        setattr(config, "encoder_layers" if config.model_type == "whisper" else "num_hidden_layers", cut)
    # A checkpoint of the whole Whisper keeps its encoder below these names; the decoder is not even read.
    prefix = {"key_mapping": {r"^(model\.)?encoder\.": ""}} if config.model_type == "whisper" else {}
    try:
        with _quiet():
            # transformers is given tensors and not the folder, where it would take up adapters and the like by itself:
            # so the files that are loaded are those that the fingerprint hashes.
            tensors = {}
            for path in checkpoint.preferred(WEIGHTS):
                if path.suffix != ".json":
                    tensors |= transformers.modeling_utils.load_state_dict(path, weights_only=True)
            model, report = model_class.from_pretrained(
                None,
                state_dict=tensors,
                config=config,
                dtype=torch.float32,
                attn_implementation="sdpa" if model_class._supports_sdpa else "eager",
                output_loading_info=True,
                **prefix,
            )
    except pickle.UnpicklingError as error:
        raise ViewError(
            f"source {source!r}: its weights hold more than tensors and were not loaded; convert them to safetensors"
        ) from error
    # transformers fills what is missing with random numbers. Of these only the mask of pre-training is never used.
    if missing := sorted(set(report["missing_keys"]) - {"masked_spec_embed"}):
        raise ViewError(
            f"source {source!r}: its weights lack {len(missing)} tensors of the model, {missing[0]} among them"
        )
    return model.eval().requires_grad_(False)


@contextmanager
def _quiet() -> Iterator[None]:
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


def make_miniature(name: str, folder: Path) -> None:
    """Writes the miniature of that name into a folder, as a checkpoint in Hugging Face's layout."""
    settings, do_normalize = miniatures.TRANSFORMERS[name]
    is_whisper = settings["model_type"] == "whisper"
    config_class, model_class = _MODELS[settings["model_type"]]
    if is_whisper:
        model_class = transformers.WhisperForConditionalGeneration  # as the real ones: the decoder included
        preprocessor = transformers.WhisperFeatureExtractor()
    else:
        preprocessor = transformers.Wav2Vec2FeatureExtractor(
            do_normalize=do_normalize, return_attention_mask=settings["feat_extract_norm"] == "layer"
        )
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(miniatures.seed(name))
        model = model_class(config_class.from_dict(dict(settings)))
        if not is_whisper:
            _tune_front_end(model.feature_extractor)
        model.save_pretrained(folder)
    preprocessor.save_pretrained(folder)


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
