"""Miniatures: `miniature:<name>` is a small model of a real architecture with random weights from a fixed seed.

Each is written to disk once as a real checkpoint, below the study's `.strata/miniatures/` (or `miniatures/` of
`$STRATA_CACHE`), and loaded by the very code that loads a real one: so demo, tests and documentation need no hub. This
file says what they are and keeps them; a backend's own file writes their weights.

They keep what makes the real ones hard to batch and to time: kernels and strides of the front end (50 frames per
second, a receptive field of 400 samples), the normalisation scheme, the number of layers of WavLM Large. They know
nothing, yet a random network of the right shape still tells sounds apart.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from zlib import crc32

from strata.extractors.contract import ViewError
from strata.extractors.suggestion import nearest

PREFIX = "miniature:"

# Raised when what is written below changes: an old miniature on somebody's disk is then made anew.
_VERSION = "2"

_WIDTHS = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "conv_dim": [32, 32, 32, 32, 32, 32, 32],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
    # The default of 0.02 suits a width of 768; here it would leave every layer a copy of the one below.
    "initializer_range": 0.15,
}
_BASE = {**_WIDTHS, "feat_extract_norm": "group", "do_stable_layer_norm": False}
_LARGE = {**_WIDTHS, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}

# Attributes of each one's Hugging Face configuration, and do_normalize of its preprocessor, as the real ones have it.
TRANSFORMERS: dict[str, tuple[dict[str, object], bool | None]] = {
    "wav2vec2": ({"model_type": "wav2vec2", **_BASE}, True),
    "hubert": ({"model_type": "hubert", **_BASE}, True),
    "wavlm": ({"model_type": "wavlm", **_BASE}, False),
    "unispeech-sat": ({"model_type": "unispeech-sat", **_BASE}, True),
    "xls-r": ({"model_type": "wav2vec2", **_LARGE}, True),
    "mms": ({"model_type": "wav2vec2", **_LARGE, "num_hidden_layers": 5}, True),
    "hubert-large": ({"model_type": "hubert", **_LARGE}, True),
    "wavlm-large": ({"model_type": "wavlm", **_LARGE, "num_hidden_layers": 24, "hidden_size": 32}, True),
    # audEERING's dimensional-emotion model: a wav2vec 2.0 with a head of its own, which `logits: true` asks.
    "emotion": (
        {"model_type": "wav2vec2", **_LARGE, "id2label": {"0": "arousal", "1": "dominance", "2": "valence"}},
        True,
    ),
    "whisper": (
        {
            "model_type": "whisper",
            "d_model": 48,
            "encoder_layers": 4,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 96,
            "decoder_layers": 1,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 48,
            "max_target_positions": 32,
            "init_std": 0.15,
            # The vocabulary's size and the numbers of its special tokens come from the tokenizer made with it.
        },
        None,
    ),
}
TEXT: dict[str, dict[str, object]] = {
    "bert": {
        "model_type": "bert",
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.15,
    },
}
"""Attributes of the configurations of language models."""
SPEECHBRAIN = ("xvector",)
TFHUB = ("trillsson",)
"""Names after `miniature:`, by family."""


def seed(name: str) -> int:
    """Seed of a miniature's weights: of its own, so that two of the same shape are different models."""
    return crc32(name.encode())


def miniature(
    source: str, known: Sequence[str], make: Callable[[str, Path], None], study_folder: Path = Path()
) -> Path:
    """Folder of a miniature's checkpoint, written by `make(name, folder)` where it is not there yet.

    Miniatures are kept in `$STRATA_CACHE`, or in the study's `.strata` where that is not set. One appears under its
    name only when it is whole. Two processes that make it at the same time write the same bytes, and one of them wins.

    Raises:
        ViewError: the name is not among those `known` to the view's family.
    """
    name = source.removeprefix(PREFIX)
    if name not in known:
        close = nearest(name, known)
        hint = f" (did you mean {PREFIX}{close}?)" if close else ""
        raise ViewError(f"expected {' or '.join(PREFIX + k for k in known)} for this family, got {source!r}{hint}")
    home = Path(os.environ.get("STRATA_CACHE") or study_folder / ".strata").absolute() / "miniatures" / f"v{_VERSION}"
    folder = home / name
    if folder.is_dir():
        return folder
    home.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", suffix=".tmp", dir=home))
    try:
        make(name, unfinished)
        unfinished.chmod(0o755)  # mkdtemp keeps others out
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
