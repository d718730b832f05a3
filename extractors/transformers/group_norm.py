"""Group normalisation that does not see the padding.

Every *base* wav2vec 2.0, HuBERT, WavLM and UniSpeech-SAT normalises the output of its first convolution by statistics
over time (one group per channel). In a padded batch the padding enters them, and no attention mask helps: the error
against a call without padding is of the order of the values themselves. Here each utterance is normalised over its own
valid frames: on a CPU by the very kernel that a call without padding would use, one after the other; on a GPU, which
hundreds of small kernels would keep waiting, all at once.

Knows `torch.nn.GroupNorm` and where the speech models of transformers keep theirs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from strata.extractors.torch_setup import to_device
from torch import Tensor, nn


class ValidGroupNorm(nn.GroupNorm):
    """A `GroupNorm` over [batch, channels, time] whose statistics are those of each utterance's valid frames.

    Frames beyond them come out as zero. Without `valid_frames` it is its parent.
    """

    valid_frames: Sequence[int] | None = None
    """Valid frames of each utterance in the batch to come; None where nothing is padded."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalises [batch, channels, time]."""
        if self.valid_frames is None:
            return super().forward(hidden)
        if hidden.is_cuda and self.num_groups == self.num_channels:
            return self._at_once(hidden)
        normalised = torch.zeros_like(hidden)
        for index, num_frames in enumerate(self.valid_frames):
            normalised[index, :, :num_frames] = super().forward(hidden[index : index + 1, :, :num_frames])[0]
        return normalised

    def _at_once(self, hidden: Tensor) -> Tensor:
        """As `forward`, where each channel is a group, with statistics in float32."""
        count = to_device(np.array(self.valid_frames), hidden.device)[:, None, None]
        padding = torch.arange(hidden.shape[2], device=hidden.device) >= count
        centred = hidden.float().masked_fill(padding, 0)
        mean = centred.sum(dim=2, keepdim=True) / count
        centred = centred.sub_(mean).masked_fill_(padding, 0)
        scale = (centred.square().sum(dim=2, keepdim=True) / count + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight[:, None]
            shift = self.bias[:, None].float()
            return torch.addcmul(shift, centred, scale).masked_fill_(padding, 0).to(hidden.dtype)
        return (centred * scale).to(hidden.dtype)


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
