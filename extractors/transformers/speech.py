"""Hidden states of Hugging Face models: wav2vec 2.0, XLS-R, MMS, HuBERT, WavLM, UniSpeech-SAT, Whisper's encoder.

Reads checkpoints in Hugging Face's layout and waveforms; hands over pooled layers.

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
samples (`group_norm`), and waveforms are normalised one by one, before padding, where the checkpoint's preprocessor
says so. Whisper has no mask: it sees 30 s of log-mel spectrogram always, and of its 1500 frames only the
ceil(samples / 320) that lie on audio count.

**Number formats.** `compute_dtype` shortens weights and activations to bfloat16 or float16, or the factors of products
to TF32; waveforms are normalised and hidden states summed up in float32 whatever it says, and so is a module computed
whose kernel is wrong in the format on the machine at hand (`number_formats`).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from strata.extractors import miniatures, number_formats, padding
from strata.extractors.batching import run_halving
from strata.extractors.contract import SAMPLING_RATE, HiddenStates, Size
from strata.extractors.hidden_states import Tap, Totals
from strata.extractors.layers import depth_needed, kept_frames, kept_layers
from strata.extractors.padding import Padded
from strata.extractors.sources import find, hash_files, hash_settings
from strata.extractors.torch_setup import DTYPES, TorchExtractor, inference, refuse_tf32, to_device
from strata.extractors.transformers.checkpoints import SPEECH_MODELS, load_model, read_tensors, transformers
from strata.extractors.transformers.emotion import RegressionHead
from strata.extractors.transformers.front_end import FrontEnd, NormalisedConvolution, PositionalConvolution
from strata.extractors.transformers.fused_norm import fuse_norms
from strata.extractors.transformers.group_norm import ValidGroupNorm, patch_front_end
from strata.extractors.transformers.miniature import make_miniature
from strata.extractors.transformers.settings import OPTIONAL, PREPROCESSOR, WEIGHTS, read_preprocessor, read_settings
from strata.extractors.transformers.wavlm_attention import patch_attention
from strata.extractors.view import LAST_HIDDEN_STATE, TransformersView
from strata.extractors.windows import FrameGrid, Window, plan

_PROBE = (16_001, 9_973)
"""Samples of the sounds on which a number format is tried."""
_GroupNorm = ValidGroupNorm | NormalisedConvolution | None
"""What is told the valid frames of each batch, where a front end has it."""
_WHISPER_SECONDS = 30.0
_WHISPER_STRIDE = 320  # a hop of 160 samples, halved by the second convolution


class TransformersExtractor(TorchExtractor):
    """One speech model of Hugging Face transformers."""

    def __init__(self, view: TransformersView, *, device: str, batch_s: float | None, folder: Path = Path()):
        super().__init__(device, batch_s)
        self._view = view
        self._checkpoint = find(
            view.source,
            view.revision,
            needed=[("config.json",), PREPROCESSOR, WEIGHTS],
            optional=OPTIONAL,
            family="transformers",
            miniatures=tuple(miniatures.TRANSFORMERS),
            make_miniature=make_miniature,
            folder=folder,
        )
        self.checkpoint = self._checkpoint.folder
        self._settings = read_settings(self._checkpoint, view.source, SPEECH_MODELS, "transformers")
        self._config, self._model_class = _configure(self._settings)
        self._is_whisper = self._config.model_type == "whisper"
        kind = "WhisperFeatureExtractor" if self._is_whisper else "Wav2Vec2FeatureExtractor"
        self._preprocessor = read_preprocessor(self._checkpoint.folder, view.source, kind)
        self._normalize = not self._is_whisper and self._preprocessor.get("do_normalize", True)

        depth = self._config.encoder_layers if self._is_whisper else self._config.num_hidden_layers
        self.layer_names = kept_layers(view.layers, depth, view.source)
        self.frame_layers = kept_frames(view.frames, self.layer_names)
        self._depth = depth_needed(self.layer_names, depth)
        self._is_cut = self._depth < depth

        self.dim = self.frame_dim + (self._config.num_labels if view.logits else 0)
        self._grid = (
            FrameGrid(_WHISPER_STRIDE, receptive_field=1)
            if self._is_whisper
            else FrameGrid.of_convolutions(list(self._config.conv_kernel), list(self._config.conv_stride))
        )
        self.frame_rate_hz = SAMPLING_RATE / self._grid.stride
        self.min_samples = self._grid.receptive_field
        self._window_s = min(view.window_s, _WHISPER_SECONDS) if self._is_whisper else view.window_s

    @property
    def frame_dim(self) -> int:
        """Width of a hidden state; less than `dim` where logits are appended to its mean."""
        return self._config.d_model if self._is_whisper else self._config.hidden_size

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
            "pooling": "mean over valid frames" + (", then the logits of that mean" if self._view.logits else ""),
        }

    @cached_property
    def size(self) -> Size:
        """See `Extractor.size`; counted without any weights."""
        with torch.device("meta"):
            kept, whole = (
                sum(parameter.numel() for parameter in self._model_class(config).parameters())
                for config in (self._cut_config(), self._config)
            )
        return Size(kept, whole, DTYPES[self._view.compute_dtype].itemsize)

    def _extract(self, waveforms: Sequence[np.ndarray]) -> list[HiddenStates]:
        overlap_s = min(self._view.overlap_s, self._window_s / 2)
        window, overlap = (round(seconds * SAMPLING_RATE) for seconds in (self._window_s, overlap_s))
        pieces = [
            (utterance, piece)
            for utterance, waveform in enumerate(waveforms)
            for piece in plan(len(waveform), self._grid, window, overlap)
        ]
        known: dict[int, tuple[float, float]] = {}

        def moments(utterance: int, piece: Window) -> tuple[float, float] | None:
            """Of the whole utterance, when its turn comes: a GPU waits for no other's, and takes them itself where it
            has all of the utterance."""
            if not self._normalize:
                return 0.0, 1.0
            if self._device.type == "cuda" and piece.stop - piece.start == len(waveforms[utterance]):
                return None
            if utterance not in known:
                known[utterance] = padding.moments(waveforms[utterance])
            return known[utterance]

        totals = Totals(len(waveforms), self.layer_names, self.frame_layers)
        under_way: list[tuple[list[int], Tap]] = []

        def fetch() -> None:
            for batch in under_way:
                totals.add(*batch)
            under_way.clear()

        def compute(batch: list[int]) -> None:
            utterances = [pieces[index][0] for index in batch]
            windows = [pieces[index][1] for index in batch]
            cut = [waveforms[u][piece.start : piece.stop] for u, piece in zip(utterances, windows, strict=True)]
            inputs = padding.pad(cut, list(map(moments, utterances, windows)), pinned=self._device.type == "cuda")
            with inference(self._view.compute_dtype):
                tap = self._run(inputs, windows)
                tap.send()
            fetch()  # the batch before: what a GPU has computed is put together while it works on this one
            under_way.append((utterances, tap))

        whole = round(_WHISPER_SECONDS * SAMPLING_RATE)
        lengths = [whole if self._is_whisper else piece.stop - piece.start for _, piece in pieces]
        self._batch_samples = run_halving(lengths, self._batch_samples, compute, equal_only=self._padding_shows)
        fetch()
        return [self._with_logits(states) for states in totals.hidden_states()]

    def _with_logits(self, states: HiddenStates) -> HiddenStates:
        if self._head is None:
            return states
        return replace(states, pooled=np.concatenate([states.pooled, self._head(states.pooled)], axis=1))

    @property
    def _bytes_per_s(self) -> float:
        """What a second of audio takes: of the first convolution's output a few copies are alive at a time; in longer
        utterances the scores of attention, or WavLM's bias, are as large."""
        if self._is_whisper:
            values = 2 * 4 * 100 * self._config.d_model
        else:
            values = 5 * self._config.conv_dim[0] * SAMPLING_RATE / self._config.conv_stride[0]
        scores = 2 * self._config.num_attention_heads * self.frame_rate_hz**2 * self._window_s
        return (values + scores) * DTYPES[self._view.compute_dtype].itemsize

    @property
    def _padding_shows(self) -> bool:
        # A batch norm before the positional convolution (as in multilingual HuBERT) turns the zeros of the padding into
        # something else, which the convolution then carries into valid frames.
        return bool(getattr(self._config, "conv_pos_batch_norm", False))

    def _run(self, inputs: Padded, windows: Sequence[Window]) -> Tap:
        """Runs the model over one batch of normalised windows."""
        # Whisper's last hidden state is what the final norm gives, not the last layer: see the module's docstring.
        tied = str(self._depth) if self._is_whisper and not self._is_cut else None
        tap = Tap(self.layer_names, self.frame_layers, windows, most=self._most)
        with tap.on(self._layers, but=tied):
            last = self._forward(inputs)
        tap.take(LAST_HIDDEN_STATE, last)
        if tied is not None:
            tap.take(tied, last)
        return tap

    @property
    def _most(self) -> float | None:
        # transformers holds Whisper's float16 values a thousand below the format's largest: an overflow looks finite.
        is_held = self._is_whisper and self._view.compute_dtype == "float16"
        return torch.finfo(torch.float16).max - 1000 if is_held else None

    def _forward(self, inputs: Padded) -> torch.Tensor:
        """Runs the model; its last hidden state [batch, time, dim]."""
        return self._compute(inputs, self._network, self._group_norm, DTYPES[self._view.compute_dtype])

    def _compute(self, inputs: Padded, network: nn.Module, group_norm: _GroupNorm, dtype: torch.dtype) -> torch.Tensor:
        """As `_forward`, by a network in that number format."""
        if self._is_whisper:
            waveforms = [row[:length] for row, length in zip(inputs.waveforms, inputs.lengths, strict=True)]
            features = self._feature_extractor(
                waveforms, sampling_rate=SAMPLING_RATE, return_tensors="np", device=self.device
            )
            return network(to_device(features["input_features"], self._device).to(dtype)).last_hidden_state
        waveforms, lengths = to_device(inputs.waveforms, self._device), to_device(inputs.lengths, self._device)
        if any(inputs.raw):
            waveforms = padding.normalised(waveforms, lengths, to_device(inputs.raw, self._device))
        if group_norm is not None:
            first = FrameGrid.of_convolutions(list(self._config.conv_kernel[:1]), list(self._config.conv_stride[:1]))
            group_norm.valid_frames = [first.num_frames(length) for length in inputs.lengths]
        # Of a mask, transformers asks for the number of valid samples, its sum, and for nothing else.
        mask = lengths[:, None] if inputs.is_padded else None
        return network(waveforms.to(dtype), attention_mask=mask).last_hidden_state

    def _cut_config(self) -> Any:
        config = type(self._config).from_dict(self._config.to_dict())
        setattr(config, "encoder_layers" if self._is_whisper else "num_hidden_layers", self._depth)
        return config

    @cached_property
    def _loaded(self) -> tuple[nn.Module, _GroupNorm, RegressionHead | None]:
        """The encoder, its front end's norm where that must know lengths, and the head whose logits are wanted."""
        source = self._view.source
        refuse_tf32(self._device, self._view.compute_dtype)
        tensors = read_tensors(self._checkpoint, source)
        head = RegressionHead.from_tensors(tensors, self._config.num_labels, source) if self._view.logits else None
        # A checkpoint of the whole Whisper keeps its encoder below these names; the decoder is not even read.
        prefix = {"key_mapping": {r"^(model\.)?encoder\.": ""}} if self._is_whisper else {}
        # Only pre-training uses the mask's embedding.
        unused = frozenset({"masked_spec_embed"})
        model = load_model(self._model_class, self._cut_config(), tensors, source, unused=unused, **prefix)
        group_norm = None
        if self._config.model_type == "wavlm":
            patch_attention(model.encoder.layers)
        if not self._is_whisper:
            group_norm = patch_front_end(model.feature_extractor.conv_layers)
            _fold_weight_norm(model.encoder.pos_conv_embed.conv)
            if self._device.type == "cuda":
                group_norm = self._quicken(model, group_norm)
        model = model.to(self._device)
        if self._view.compute_dtype != "float32":
            self._shorten(model, group_norm)
        return model, group_norm, head

    def _quicken(self, network: nn.Module, group_norm: _GroupNorm) -> _GroupNorm:
        """Gives a speech model's network what suits a GPU, in place; what has become of its group norm."""
        front_end = network.feature_extractor = FrontEnd(network.feature_extractor)
        if self._view.compute_dtype != "float32":  # in which cuDNN's is quicker
            embedding = network.encoder.pos_conv_embed
            embedding.conv = PositionalConvolution(embedding.conv)
        fuse_norms(network)
        return group_norm and front_end.group_norm

    def _shorten(self, network: nn.Module, group_norm: _GroupNorm) -> None:
        """Brings a float32 network into the view's number format, which is first seen to work here: alone, and in a
        padded batch.

        Raises:
            ViewError: it is wrong on this device in a way that no layer of float32 mends.
        """
        asked = self._view.compute_dtype
        dtype, rng = DTYPES[asked], np.random.default_rng(0)
        noises = [0.1 * rng.standard_normal(length).astype(np.float32) for length in _PROBE]
        batches = [noises[:1], noises]

        def hear(dtype: torch.dtype, compute_dtype: str = "float32") -> dict[str, torch.Tensor]:
            sums: dict[str, torch.Tensor] = {}
            for number, waveforms in enumerate(batches):
                inputs = padding.pad(waveforms, [(0.0, 1.0)] * len(waveforms))
                windows = [Window(0, len(one), 0, self._grid.num_frames(len(one))) for one in waveforms]
                names = [str(layer) for layer in range(self._depth + 1)]
                tap = Tap(names, (), windows, most=self._most)
                with inference(compute_dtype):
                    with tap.on(network.layers if self._is_whisper else network.encoder.layers):
                        self._compute(inputs, network, group_norm, dtype)
                    tap.send()
                tap.wait()
                sums |= {f"{name}{' of a padded batch' * number}": values for name, values in tap.sums.items()}
            return sums

        exact = hear(torch.float32)
        if asked != "tf32":
            wrong = number_formats.wrong_modules(network, lambda: hear(torch.float32), dtype)
            number_formats.shorten(network, dtype, but=wrong)
            self.in_float32 = tuple(wrong)
        number_formats.refuse_wrong(exact, hear(dtype, asked), asked, self._device.type)

    @property
    def _network(self) -> nn.Module:
        return self._loaded[0]

    @property
    def _group_norm(self) -> _GroupNorm:
        return self._loaded[1]

    @property
    def _head(self) -> RegressionHead | None:
        return self._loaded[2]

    @property
    def _layers(self) -> nn.ModuleList:
        return self._network.layers if self._is_whisper else self._network.encoder.layers

    @cached_property
    def _feature_extractor(self) -> transformers.WhisperFeatureExtractor:
        return transformers.WhisperFeatureExtractor.from_dict(self._preprocessor)


def _fold_weight_norm(conv: nn.Module) -> None:
    """Computes the positional convolution's weight from its norm and direction once, not at every call; and in float32,
    whatever the model is then shortened to."""
    if nn.utils.parametrize.is_parametrized(conv, "weight"):
        nn.utils.parametrize.remove_parametrizations(conv, "weight")


def _configure(settings: dict[str, Any]) -> tuple[Any, type]:
    """The configuration that config.json's settings make, and the class of the encoder."""
    config_class, model_class = SPEECH_MODELS[settings["model_type"]]
    config = config_class.from_dict(settings)
    if settings["model_type"] != "whisper":
        config.add_adapter = False  # it comes after the last hidden state and changes the number of frames
    return config, model_class
