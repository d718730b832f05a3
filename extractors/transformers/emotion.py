"""The head of audEERING's dimensional-emotion model: arousal, dominance and valence from an utterance's mean.

Its checkpoint (`audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim`) is a wav2vec 2.0 with a head that transformers
has no class for: two linear layers with tanh in between, on the last hidden state's mean over time. A view with
`logits: true` appends what it says to that mean (joint emotion, age and country: *w2v2-R-vad*).

Source: Wagner et al., *Dawn of the transformer era in speech emotion recognition: closing the valence gap*, 2023.
"""

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from strata.extractors.contract import ViewError

_NAMES = ("classifier.dense.weight", "classifier.dense.bias", "classifier.out_proj.weight", "classifier.out_proj.bias")


class RegressionHead:
    """Logits of a mean: `out_proj(tanh(dense(x)))`, in float32 on the CPU, where one vector per utterance costs
    nothing and the same audio gives the same logits wherever the encoder ran."""

    def __init__(self, dense: tuple[Tensor, Tensor], out_proj: tuple[Tensor, Tensor]):
        self._dense, self._out_proj = dense, out_proj

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], num_labels: int, source: str) -> "RegressionHead":
        """The head among a checkpoint's tensors.

        Raises:
            ViewError: it has none of this kind, or one of another width than config.json says.
        """
        if lacking := [name for name in _NAMES if name not in tensors]:
            raise ViewError(
                f"source {source!r}: logits: true needs a regression head such as audEERING's emotion model has; its "
                f"weights lack {lacking[0]}"
            )
        dense, dense_bias, out, out_bias = (tensors[name].float() for name in _NAMES)
        if len(out) != num_labels:
            raise ViewError(
                f"source {source!r}: expected as many labels in config.json (id2label) as its regression head has "
                f"outputs, {len(out)}, got {num_labels}"
            )
        return cls((dense, dense_bias), (out, out_bias))

    def __call__(self, pooled: Float32[np.ndarray, "utterances dim"]) -> Float32[np.ndarray, "utterances labels"]:
        """Logits of means."""
        with torch.inference_mode():
            hidden = nn.functional.linear(torch.from_numpy(pooled), *self._dense).tanh()
            return nn.functional.linear(hidden, *self._out_proj).numpy()
