"""Speech recognition by Whisper: waveforms to texts.

Reads checkpoints in Hugging Face's layout and waveforms; hands over one text per waveform. Knows no manifest and no
table. The texts are those of the official path, `WhisperProcessor` and `WhisperForConditionalGeneration.generate`, as
far as that is deterministic:

- **Up to 30 s**: one pass without times, greedy or with beams. Whisper always sees 30 s, so a batch pads no audio, and
  the text is the same alone and in any batch (but for ties between tokens that differ by no more than rounding).
- **Longer audio is never cut off.** Whisper's own way through it (Radford et al., *Robust Speech Recognition via
  Large-Scale Weak Supervision*, 2023, section 3.8) is transformers' long-form generation: a window of 30 s is
  transcribed with times, and the next one begins at the last time told, so that no word is cut in two. It is chosen
  here over fixed windows for that reason. One recording at a time, since the spectrogram's floor and end depend on the
  longest of a batch. `window_s` asks for windows of nearly equal length instead, cut wherever they happen to end: for
  checkpoints that were tuned without times, and for hours of audio that must not lie in memory as one spectrogram.
- **Off are** the fallback to sampling at rising temperatures and the thresholds that call for it (compression, log
  probability, no speech), and the text so far as a prompt: a text must be a function of its recording alone, and an
  error must not be carried from window to window.

Of a checkpoint's `generation_config.json` only what describes the model is read (`_KEPT`). How to decode is for the
section alone to say: a language, sampling, beams or more outputs that stand in the file are left out; its penalties on
repetition and length count, as in the official path. A multilingual model always transcribes and never translates.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from strata.extractors.batching import is_out_of_memory, run_halving
from strata.extractors.contract import SAMPLING_RATE, UnusableAudio, ViewError, unusable
from strata.extractors.families import RECOGNISER
from strata.extractors.recogniser import RecogniserSection
from strata.extractors.resampling import resample
from strata.extractors.sources import find, hash_files, hash_settings
from strata.extractors.suggestion import suggestion
from strata.extractors.torch_setup import batch_seconds, inference, resolve_device, to_device
from strata.extractors.transformers.checkpoints import load_model, load_tokenizer, quiet, read_tensors, transformers
from strata.extractors.transformers.miniature import make_miniature
from strata.extractors.transformers.settings import (
    OPTIONAL,
    PREPROCESSOR,
    TOKENIZER_CONFIG,
    TOKENIZER_OPTIONAL,
    WEIGHTS,
    read_json,
    read_preprocessor,
    read_settings,
    tokenizer_files,
    tokenizer_settings,
)

_WINDOW_S = 30.0
_VOCABULARY = ("vocab.json", "merges.txt")
_PROMPT = 4
"""Tokens that a window's text begins with: start, language, task, and that no times are wanted."""
_KEPT = (
    # The numbers of tokens, and the prompt of English-only models of 2022 (others are told language and task instead).
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "no_timestamps_token_id"),
    *("prev_sot_token_id", "lang_to_id", "task_to_id", "is_multilingual", "forced_decoder_ids"),
    # What is never said, or not too often or too late: the same for every recording, whatever its neighbours.
    *("suppress_tokens", "begin_suppress_tokens", "max_initial_timestamp_index", "max_length", "max_new_tokens"),
    *("repetition_penalty", "no_repeat_ngram_size", "length_penalty", "early_stopping"),
)
"""What is read of `generation_config.json`."""
_CPU_BATCH_S = 120.0
_LANGUAGE_CODES = transformers.models.whisper.tokenization_whisper.TO_LANGUAGE_CODE
"""Codes of languages by their English names."""


class Recogniser:
    """One Whisper with its tokenizer. Cheap to make: weights are read at the first call of `transcribe`."""

    least_s = _WINDOW_S
    """What a shorter recording counts as in a batch, in seconds."""

    def __init__(self, section: RecogniserSection, *, device: str, batch_s: float | None, folder: Path = Path()):
        self._section = section
        self._device = resolve_device(device)
        self.device = str(self._device)
        """Where the network runs, such as `cpu` or `cuda:0`."""
        self._batch_s = batch_s
        self._checkpoint = find(
            section.source,
            section.revision,
            needed=[
                *(("config.json",), PREPROCESSOR, ("generation_config.json",)),
                # Checkpoints of 2022 and 2023 have the parts of a tokenizer instead of the whole.
                *(("tokenizer.json", part) for part in _VOCABULARY),
                (TOKENIZER_CONFIG,),
                WEIGHTS,
            ],
            optional=(*OPTIONAL, *TOKENIZER_OPTIONAL),
            family=RECOGNISER,
            miniatures=("whisper",),
            make_miniature=make_miniature,
            folder=folder,
        )
        self.checkpoint = self._checkpoint.folder
        """Folder of the model's files, on which the fingerprint depends beside the section."""
        self._settings = read_settings(self._checkpoint, section.source, ("whisper",), RECOGNISER)
        self._config = transformers.WhisperConfig.from_dict(self._settings)
        self._preprocessor = read_preprocessor(self.checkpoint, section.source, "WhisperFeatureExtractor")
        generation = read_json(self.checkpoint / "generation_config.json", section.source)
        self._generation = {key: generation[key] for key in _KEPT if key in generation}
        self._tokenizer_files = self._find_tokenizer()
        self._languages = _languages(self._generation)
        self._language = _language(section, self._languages)
        room = self._config.max_target_positions - _PROMPT
        if (wanted := section.max_new_tokens) is not None and wanted > room:
            raise ViewError(f"source {section.source!r}: expected max_new_tokens of at most {room}, got {wanted}")

    @cached_property
    def fingerprint(self) -> dict[str, object]:
        """JSON-able fields that determine the texts, in the manner of `Extractor.fingerprint`: no device, no batch
        size, no path. Computed without loading the weights into memory."""
        checkpoint, section = self._checkpoint, self._section
        if section.window_s is None:
            long_audio = "from time to time, long-form generation without fallback or prompt"
        else:
            long_audio = f"windows of at most {section.window_s:g} s"
        return {
            "family": "whisper",
            "source": checkpoint.source,
            "revision": checkpoint.revision,
            "config": hash_settings(self._settings, self._preprocessor, self._generation),
            "tokenizer": hash_files(self._tokenizer_files),
            "weights": hash_files(checkpoint.preferred(WEIGHTS)),
            "preprocessing": f"{SAMPLING_RATE} Hz mono; log-mel spectrogram of 30 s",
            "language": self._language,
            "decoding": {"num_beams": section.num_beams, "max_new_tokens": section.max_new_tokens},
            "long_audio": long_audio,
            "text": "stripped",
        }

    def _find_tokenizer(self) -> list[Path]:
        """Its files. One in parts says in which of them what its special tokens are: without, it would spell them.

        Raises:
            ViewError: some are missing.
        """
        source = self._section.source
        files = tokenizer_files(self._checkpoint, source, _VOCABULARY)
        names = [file.name for file in files]
        if "vocab.json" in names and "added_tokens_decoder" not in tokenizer_settings(self.checkpoint, source):
            for part in ("added_tokens.json", "special_tokens_map.json"):
                if part not in names:
                    raise ViewError(
                        f"source {source!r}: expected tokenizer.json or {part} in {self.checkpoint}, found none; put "
                        "what is missing there"
                    )
        return files

    def transcribe(self, waveforms: Sequence[np.ndarray], sampling_rate: int) -> list[str]:
        """The text of each waveform, in the order given, without white space around it; empty where nothing is said.

        Args:
            waveforms: mono float arrays [samples], amplitude within about ±1, of any lengths.
            sampling_rate: of all waveforms, in Hz.

        Raises:
            UnusableAudio: see `unusable`; nothing has been computed then. Or audio of more than 30 s that does not fit
                into memory as a whole.
        """
        for waveform in waveforms:
            if (reason := self.unusable(waveform, sampling_rate)) is not None:
                raise UnusableAudio(reason)
        resampled = [resample(waveform, sampling_rate, SAMPLING_RATE) for waveform in waveforms]
        whole = self._section.window_s is None
        pieces = [
            (number, waveform[start:stop])
            for number, waveform in enumerate(resampled)
            if not (whole and _is_long(waveform))
            for start, stop in _windows(len(waveform), _WINDOW_S if whole else self._section.window_s)
        ]
        texts: list[list[str]] = [[] for _ in resampled]
        found: dict[int, str] = {}

        def compute(batch: list[int]) -> None:
            found.update(zip(batch, self._short([pieces[index][1] for index in batch]), strict=True))

        with quiet(), inference():
            for number, waveform in enumerate(resampled):
                if whole and _is_long(waveform):
                    texts[number].append(self._long(waveform))
            self._largest_s = run_halving([_WINDOW_S] * len(pieces), self._largest_s, compute)
        for index, (number, _) in enumerate(pieces):
            texts[number].append(found[index])
        return [" ".join(text for text in parts if text) for parts in texts]

    def unusable(self, waveform: np.ndarray, sampling_rate: int) -> str | None:
        """The reason why this model cannot take the waveform [samples]; None where it can."""
        if (reason := unusable(waveform, sampling_rate, min_samples=1)) is not None:
            return reason
        knows_times = "no_timestamps_token_id" in self._generation
        if len(waveform) > _WINDOW_S * sampling_rate and self._section.window_s is None and not knows_times:
            return "longer than 30 s, and the checkpoint tells no times; give the recogniser a window_s of at most 30"
        return None

    def _short(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """Texts of waveforms of at most 30 s, in one batch."""
        features = self._features(waveforms)["input_features"]
        # Once: `generate` itself would run the encoder once more to find out the language. And a single call, whatever
        # the decoder says: without times there is nothing to go on from.
        heard = self._model.model.encoder(to_device(features, self._device))
        tokens = self._model.generate(
            encoder_outputs=heard, force_unique_generate_call=True, return_timestamps=False, **self._how
        )
        return self._decoded(tokens)

    def _long(self, waveform: np.ndarray) -> str:
        """Text of a waveform of more than 30 s."""
        model = self._model  # before the audio: where the weights alone do not fit, no recording is to blame
        try:
            inputs = self._features([waveform], truncation=False, padding="longest", return_attention_mask=True)
            arguments = {name: to_device(values, self._device) for name, values in inputs.items()}
            tokens = model.generate(**arguments, return_timestamps=True, condition_on_prev_tokens=False, **self._how)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            seconds = len(waveform) / SAMPLING_RATE
            raise UnusableAudio(
                f"its {seconds:.0f} s do not fit into memory as a whole; give the recogniser a window_s of at most 30"
            ) from error
        return self._decoded(tokens)[0]

    def _features(self, waveforms: Sequence[np.ndarray], **how) -> dict[str, np.ndarray]:
        return dict(self._feature_extractor(list(waveforms), sampling_rate=SAMPLING_RATE, return_tensors="np", **how))

    def _decoded(self, tokens: torch.Tensor) -> list[str]:
        texts = self._tokenizer.batch_decode(tokens.cpu(), skip_special_tokens=True)
        return [text.strip() for text in texts]

    @property
    def _how(self) -> dict[str, object]:
        """What is asked of every generation. English-only models refuse to be told language and task."""
        asked: dict[str, object] = {"num_beams": self._section.num_beams}
        if self._section.max_new_tokens is not None:
            asked["max_new_tokens"] = self._section.max_new_tokens
        if self._languages:
            asked |= {"task": "transcribe", "language": self._language}
        return asked

    @cached_property
    def _model(self) -> transformers.WhisperForConditionalGeneration:
        source = self._section.source
        tensors = read_tensors(self._checkpoint, source)
        # The output's weights are the token embedding's, and few checkpoints write them twice.
        unused = frozenset({"proj_out.weight"} if self._config.tie_word_embeddings else ())
        model = load_model(transformers.WhisperForConditionalGeneration, self._config, tensors, source, unused=unused)
        generation = dict(self._generation)
        if not generation.get("max_length"):
            generation["max_length"] = self._config.max_target_positions  # else transformers stops after 20 tokens
        model.generation_config = transformers.GenerationConfig.from_dict(generation)
        return model.to(self._device)

    @cached_property
    def _feature_extractor(self) -> transformers.WhisperFeatureExtractor:
        return transformers.WhisperFeatureExtractor.from_dict(self._preprocessor)

    @cached_property
    def _tokenizer(self) -> transformers.WhisperTokenizer:
        legacy, names = {}, {file.name: file for file in self._tokenizer_files}
        if "vocab.json" in names and "special_tokens_map.json" in names:
            # transformers 5 knows them by another name and would spell them out.
            parts = read_json(names["special_tokens_map.json"], self._section.source)
            special = parts.get("additional_special_tokens", [])
            legacy = {"extra_special_tokens": [t["content"] if isinstance(t, dict) else t for t in special]}
        return load_tokenizer(transformers.WhisperTokenizer, self._tokenizer_files, self._section.source, **legacy)

    @property
    def batch_s(self) -> float:
        """Most seconds of audio in a batch, as far as is known by now; it sinks where one did not fit. Asking loads the
        weights."""
        return self._largest_s

    @cached_property
    def _largest_s(self) -> float:
        """Most seconds of audio in a batch, each window counting as 30 s; halved where one does not fit."""
        self._model  # noqa: B018  (what is free is asked once the weights are there)
        if self._batch_s is None and self._device.type == "cpu":
            return _CPU_BATCH_S
        return batch_seconds(self._batch_s, self._device, self._bytes_per_s)

    @property
    def _bytes_per_s(self) -> float:
        """What a second of audio takes: keys and values of the frames for every layer and beam of the decoder, and a
        few copies of the encoder's widest layer."""
        config = self._config
        kept = 2 * config.decoder_layers * config.d_model * self._section.num_beams
        return 4 * 50 * (kept + 4 * config.encoder_ffn_dim)


def _is_long(waveform: np.ndarray) -> bool:
    return len(waveform) > _WINDOW_S * SAMPLING_RATE


def _windows(num_samples: int, window_s: float) -> list[tuple[int, int]]:
    """First sample and the one after the last of as few windows as possible, of nearly equal length."""
    count = ceil(num_samples / round(window_s * SAMPLING_RATE))
    return list(pairwise(index * num_samples // count for index in range(count + 1)))


def _languages(generation: dict[str, Any]) -> list[str]:
    """Codes of the languages that a multilingual model knows; none for one that knows English alone."""
    tokens = generation.get("lang_to_id") or {}
    return [token.strip("<|>") for token in tokens] if generation.get("is_multilingual", True) else []


def _language(section: RecogniserSection, known: list[str]) -> str | None:
    """The code of the language asked for, by whatever of its names."""
    if section.language is None:
        return None
    name = section.language.lower()
    code = _LANGUAGE_CODES.get(name, name)
    if not known:
        raise ViewError(f"source {section.source!r} knows one language only: remove language: {section.language}")
    if code not in known:
        hint = suggestion(name, (*_LANGUAGE_CODES, *known))
        few = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
        raise ViewError(f"source {section.source!r}: expected a language among {few}, got {section.language!r}{hint}")
    return code
