"""Hidden states of language models on transcripts: BERT and its kin. Their frames are a text's tokens.

Layers are those of Hugging Face's `hidden_states`: "0" is the sum of the embeddings, "i" the output of layer i. All
tokens count that the checkpoint's own tokenizer makes, the special ones at the beginning and end included, as in the
model's `attention_mask`. A text of more tokens than the model has positions is read in pieces of nearly that size, each
between special tokens of its own, of which only the text's first and last are kept: nothing is cut off.

Knows texts, not whose they are. Source: Devlin et al., *BERT: pre-training of deep bidirectional transformers for
language understanding*, 2019.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from strata.extractors import miniatures
from strata.extractors.batching import run_halving
from strata.extractors.contract import HiddenStates, TextExtractor, ViewError
from strata.extractors.hidden_states import Tap, Totals
from strata.extractors.layers import depth_needed, kept_frames, kept_layers
from strata.extractors.sources import find, hash_files, hash_settings
from strata.extractors.torch_setup import inference, resolve_device, to_device
from strata.extractors.transformers.checkpoints import (
    TEXT_MODELS,
    load_model,
    load_tokenizer,
    read_tensors,
    transformers,
)
from strata.extractors.transformers.miniature import make_text_miniature
from strata.extractors.transformers.settings import (
    TOKENIZER_CONFIG,
    TOKENIZER_OPTIONAL,
    WEIGHTS,
    read_settings,
    tokenizer_files,
    tokenizer_settings,
)
from strata.extractors.view import TextView
from strata.extractors.windows import Window

_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model")
"""Files of which one must be there for a tokenizer to be made."""
_CLASS_OF_TYPE = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
"""The tokenizer of each model, where the checkpoint names none."""
_VOCABULARIES = {
    "BertTokenizer": ("vocab.txt",),
    "DistilBertTokenizer": ("vocab.txt",),
    "RobertaTokenizer": ("vocab.json", "merges.txt"),
    "XLMRobertaTokenizer": ("sentencepiece.bpe.model",),
}
"""What each reads where there is no tokenizer.json."""
TOKENIZER_CLASSES = (*_VOCABULARIES, "PreTrainedTokenizer", "TokenizersBackend")
"""Those that a checkpoint may name, with or without "Fast" behind it."""
_MOST_TOKENS = {"cpu": 512, "cuda": 16_384}
"""Of a batch, padding included."""


class LanguageModelExtractor(TextExtractor):
    """One language model of Hugging Face transformers."""

    def __init__(self, view: TextView, *, device: str, batch_s: float | None, folder: Path = Path()):
        self._view = view
        self._device = resolve_device(device)
        self.device = str(self._device)
        self._batch_tokens = float(_MOST_TOKENS.get(self._device.type, 512))
        self._checkpoint = find(
            view.source,
            view.revision,
            needed=[("config.json",), _TOKENIZERS, WEIGHTS],
            optional=TOKENIZER_OPTIONAL,
            family="text",
            miniatures=tuple(miniatures.TEXT),
            make_miniature=make_text_miniature,
            folder=folder,
        )
        self.checkpoint = self._checkpoint.folder
        self._settings = read_settings(self._checkpoint, view.source, TEXT_MODELS, "text")
        self._tokenizer_files = self._find_tokenizer()
        config_class, self._model_class = TEXT_MODELS[self._settings["model_type"]]
        self._config = config_class.from_dict(self._settings)
        depth = self._config.num_hidden_layers
        self.layer_names = kept_layers(view.layers, depth, view.source)
        self.frame_layers = kept_frames(view.frames, self.layer_names)
        self._depth = depth_needed(self.layer_names, depth)
        self.dim = self._config.hidden_size

    @cached_property
    def fingerprint(self) -> dict[str, object]:
        """See `Extractor.fingerprint`. Which columns are read is not part of it: a row is known by its text."""
        checkpoint = self._checkpoint
        return {
            "family": "text",
            "source": checkpoint.source,
            "revision": checkpoint.revision,
            "config": hash_settings(self._settings),
            "weights": hash_files(checkpoint.preferred(WEIGHTS)),
            "preprocessing": f"tokenizer {hash_files(self._tokenizer_files)}, {self._most_tokens} tokens at once",
            "masking": "attention mask",
            "compute_dtype": "float32",
            "layers": list(self.layer_names),
            "frames": list(self.frame_layers),
            "pooling": "mean over all tokens, special ones included",
        }

    def _extract(self, texts: Sequence[str]) -> list[HiddenStates]:
        pieces = [(index, ids, window) for index, text in enumerate(texts) for ids, window in self._tokenize(text)]
        totals = Totals(len(texts), self.layer_names, self.frame_layers)

        def compute(batch: list[int]) -> None:
            tap = Tap(self.layer_names, self.frame_layers, [pieces[index][2] for index in batch])
            with inference():
                for name, hidden in enumerate(self._hidden_states([pieces[index][1] for index in batch])):
                    tap.take(str(name), hidden)
                tap.send()
                totals.add([pieces[index][0] for index in batch], tap)

        self._batch_tokens = run_halving([len(ids) for _, ids, _ in pieces], self._batch_tokens, compute)
        return totals.hidden_states()

    def _tokenize(self, text: str) -> list[tuple[list[int], Window]]:
        """Pieces of a text as ids with special tokens around them, and which of these are the text's."""
        found = self._tokenizer(
            text,
            truncation=True,
            max_length=self._most_tokens,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
        )
        pieces = []
        last = len(found["input_ids"]) - 1
        for number, (ids, special) in enumerate(zip(found["input_ids"], found["special_tokens_mask"], strict=True)):
            before, after = _edges(special)
            window = Window(number, number, before if number else 0, len(ids) - (0 if number == last else after))
            pieces.append((ids, window))
        return pieces

    def _hidden_states(self, batch: Sequence[list[int]]) -> Sequence[torch.Tensor]:
        """All hidden states [batch, tokens, dim] of ids."""
        longest = max(map(len, batch))
        ids = np.full((len(batch), longest), self._tokenizer.pad_token_id or 0)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        for row, valid, piece in zip(ids, mask, batch, strict=True):
            row[: len(piece)], valid[: len(piece)] = piece, 1
        ids, mask = (to_device(values, self._device) for values in (ids, mask))
        return self._model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states

    def _find_tokenizer(self) -> list[Path]:
        """Its files.

        Raises:
            ViewError: some are missing, or it is of a class that is not known here.
        """
        source = self._view.source
        said = tokenizer_settings(self.checkpoint, source)
        # In the order in which transformers asks for the class.
        named = str(said.get("tokenizer_class") or self._settings.get("tokenizer_class") or "").removesuffix("Fast")
        if named and named not in TOKENIZER_CLASSES:
            place = TOKENIZER_CONFIG if said.get("tokenizer_class") else "config.json"
            raise ViewError(
                f"source {source!r}: expected a tokenizer_class among {', '.join(TOKENIZER_CLASSES)} in {place}, got "
                f"{named}"
            )
        vocabulary = _VOCABULARIES.get(named or _CLASS_OF_TYPE[self._settings["model_type"]], ())
        return tokenizer_files(self._checkpoint, source, vocabulary)

    @cached_property
    def _most_tokens(self) -> int:
        """Positions that the model has learned; RoBERTa's first ones are taken by its padding."""
        reserved = self._config.pad_token_id + 1 if "roberta" in self._config.model_type else 0
        return self._config.max_position_embeddings - reserved

    @cached_property
    def _tokenizer(self) -> Any:
        # The configuration says which class it is where tokenizer_config.json does not.
        how = {"config": self._config, "trust_remote_code": False}
        return load_tokenizer(transformers.AutoTokenizer, self._tokenizer_files, self._view.source, **how)

    @cached_property
    def _model(self) -> nn.Module:
        tensors = read_tensors(self._checkpoint, self._view.source)
        config = type(self._config).from_dict(self._config.to_dict())
        config.num_hidden_layers = self._depth
        return load_model(self._model_class, config, tensors, self._view.source, unused=_POOLER).to(self._device)


_POOLER = frozenset({"pooler.dense.weight", "pooler.dense.bias"})
"""Made of the last layer's first token, for tasks of pre-training; no hidden state depends on it."""


def _edges(special: Sequence[int]) -> tuple[int, int]:
    """Special tokens before the first and after the last of the text's own."""
    own = [position for position, is_special in enumerate(special) if not is_special]
    return (own[0], len(special) - own[-1] - 1) if own else (0, 0)
