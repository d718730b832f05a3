"""Group normalisation that does not see the padding.

Every *base* wav2vec 2.0, HuBERT, WavLM and UniSpeech-SAT normalises the output of its first convolution by statistics
over time (one group per channel). In a padded batch the padding enters them, and no attention mask helps: the error
against a call without padding is of the order of the values themselves. Here each utterance is normalised over its own
valid frames, by the very kernel that a call without padding would use, one after the other. (On a GPU, which hundreds
of small kernels would keep waiting, `front_end` does it all at once.)

Knows `torch.nn.GroupNorm` and where the speech models of transformers keep theirs.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ValidGroupNorm(nn.GroupNorm):
    """A `GroupNorm` over [batch, channels, time] whose statistics are those of each utterance's valid frames.

    Frames beyond them come out as zero. Without `valid_frames` it is its parent.
    """

    valid_frames: Sequence[int] | None = None
    """Valid frames of each utterance in the batch to come."""

    def forward(self, hidden: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        """Each channel over time."""
        if self.valid_frames is None or min(self.valid_frames) == hidden.shape[2]:
            return super().forward(hidden)
        normalised = torch.zeros_like(hidden)
        for index, num_frames in enumerate(self.valid_frames):
            normalised[index, :, :num_frames] = super().forward(hidden[index : index + 1, :, :num_frames])[0]
        return normalised


def patch_front_end(conv_layers: nn.ModuleList) -> ValidGroupNorm | None:
    """Replaces the `GroupNorm` of a front end's first convolution, in place, keeping its weights.

    Returns:
        The replacement, whose `valid_frames` are to be set before each batch; None for layer-norm front ends, which
        normalise each frame by itself and need no cure.
    """
    norm = getattr(conv_layers[0], "layer_norm", None)
    if not isinstance(norm, nn.GroupNorm):
        return None
    patched = ValidGroupNorm(norm.num_groups, norm.num_channels, eps=norm.eps, affine=norm.affine)
    patched.load_state_dict(norm.state_dict())
    conv_layers[0].layer_norm = patched.train(norm.training)
    return patched
