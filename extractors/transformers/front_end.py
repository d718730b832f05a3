"""The convolutions that a speech model hears with, as matrix products on a GPU.

transformers lays their values out channel by channel, [batch, channels, time]: on a GPU each of the seven convolutions
then turns them over for its kernel and back, and a layer norm over the channels does so once more; there are 3200
frames a second at first, and these passes over memory take longer than the products. With the channels last, a
convolution of stride s *is* a product, of every s frames in a row with a part of its weights; frames lie as they are
needed, and nothing is turned over.

Utterances follow each other in one long row of frames, as many for each as its longest has strides, rounded up. What a
convolution makes of the end of one and the beginning of the next lies beyond the frames that it has without padding,
and is cut off in the end.

Knows the front end of wav2vec 2.0 and its kin in transformers. The values are those of its own modules to within
rounding; a CPU keeps these.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from strata.extractors.torch_setup import inference, to_device
from strata.extractors.transformers.checkpoints import transformers
from strata.extractors.transformers.fused_norm import FusedLayerNorm
from strata.extractors.transformers.group_norm import ValidGroupNorm

_ROUND = 16
"""The first convolution's ten taps are made as many: what matrix units take at once."""


class FrontEnd(nn.Module):
    """Stands in for `Wav2Vec2FeatureEncoder` and its kin, whose weights it takes over."""

    def __init__(self, original: nn.Module):
        super().__init__()
        self.conv_layers = nn.ModuleList(_Layer(layer) for layer in original.conv_layers)
        self._shapes = [(layer.conv.kernel, layer.conv.stride) for layer in self.conv_layers]

    @property
    def group_norm(self) -> "NormalisedConvolution | None":
        """What is to be told the valid frames of each batch; None where each frame is normalised by itself."""
        first = self.conv_layers[0].conv
        return first if isinstance(first, NormalisedConvolution) else None

    def forward(self, waveforms: Tensor) -> Tensor:
        """Frames [batch, channels, time] of waveforms [batch, samples], with the channels last in memory."""
        batch, num_frames = waveforms.shape
        for kernel, stride in self._shapes:
            num_frames = (num_frames - kernel) // stride + 1
        stride = prod(stride for _, stride in self._shapes)
        hidden = nn.functional.pad(waveforms, (0, -waveforms.shape[1] % stride)).reshape(-1, 1)
        for layer in self.conv_layers:
            hidden = layer(hidden)
        return hidden.view(batch, -1, hidden.shape[1])[:, :num_frames].transpose(1, 2)


class _Layer(nn.Module):
    """A convolution, a layer norm where there is one, and an activation; on [frames, channels]."""

    def __init__(self, original: nn.Module):
        super().__init__()
        norm = getattr(original, "layer_norm", None)
        is_group_norm = isinstance(norm, ValidGroupNorm)
        self.conv = NormalisedConvolution(original.conv, norm) if is_group_norm else _Convolution(original.conv)
        self.layer_norm = nn.Identity() if norm is None or is_group_norm else norm
        self.activation = original.activation
        if isinstance(norm, nn.LayerNorm) and isinstance(original.activation, transformers.activations.GELUActivation):
            self.layer_norm, self.activation = FusedLayerNorm(norm, with_gelu=True), nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        return self.activation(self.layer_norm(self.conv(hidden)))


class _Convolution(nn.Module):
    """An `nn.Conv1d` without padding, over [frames, channels] of a number of frames that its stride divides."""

    def __init__(self, original: nn.Conv1d):
        super().__init__()
        (self.kernel,), (self.stride,) = original.kernel_size, original.stride
        self.weight = nn.Parameter(_by_tap(original), requires_grad=False)
        self.bias = original.bias

    def forward(self, hidden: Tensor) -> Tensor:
        if hidden.shape[1] == 1:
            return self._product(_patches(hidden, len(self.weight), self.stride), self.weight)
        # The taps in runs of a stride's length, of which every frame has its own.
        run = self.stride * hidden.shape[1]
        rows, weight = hidden.reshape(-1, run), self.weight[:run]
        result = self._product(rows[:, : len(weight)], weight)
        for start in range(run, len(self.weight), run):
            weight, rows = self.weight[start : start + run], rows[1:]
            part = result[: len(rows)]
            torch.addmm(part, rows[:, : len(weight)], weight, out=part)
        return result

    def _product(self, rows: Tensor, weight: Tensor) -> Tensor:
        return rows @ weight if self.bias is None else torch.addmm(self.bias, rows, weight)


class NormalisedConvolution(nn.Module):
    """The first convolution and the group norm of one group a channel that follows it, in one product.

    A channel's mean and variance over an utterance follow from those of what its taps see, ten samples at a time: from
    their mean and covariance. So they are known before there are any values, and scale the weights of each utterance.
    Statistics are in float64, since a filter may leave next to nothing of what it hears.
    """

    valid_frames: Sequence[int] = ()
    """Valid frames of each utterance in the batch to come. Frames beyond them come out as whatever they are."""

    def __init__(self, conv: nn.Conv1d, norm: ValidGroupNorm):
        super().__init__()
        (self.kernel,), (self.stride,) = conv.kernel_size, conv.stride
        # With one more tap, which is given a one and has the offset. The convolution's own bias is normalised away.
        self.weight = nn.Parameter(_by_tap(conv, more=1), requires_grad=False)
        self.gain, self.offset, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Frames [batch * time, channels] of samples [batch * samples, 1]."""
        batch = len(self.valid_frames)
        patches = _patches(hidden, len(self.weight), self.stride).view(batch, -1, len(self.weight))
        count = to_device(self.valid_frames, hidden.device)[:, None, None]
        outside = torch.arange(patches.shape[1], device=hidden.device)[:, None] >= count
        seen = patches.double().masked_fill_(outside, 0)
        mean = seen.sum(dim=1, keepdim=True) / count
        seen = seen.sub_(mean).masked_fill_(outside, 0)
        covariance = seen.transpose(1, 2) @ seen / count
        weight = self.weight.double()
        variance = (covariance @ weight * weight).sum(dim=1, keepdim=True).clamp_(min=0)
        scale = (variance + self.eps).rsqrt()
        shift = -(mean @ weight) * scale
        if self.gain is not None:
            scale, shift = scale * self.gain, shift * self.gain + self.offset
        weights = weight * scale
        weights[:, self.kernel] = shift[:, 0]
        patches[:, :, self.kernel] = 1
        # Rounded weights would let through what they are to cancel, and that, scaled up, would drown what is left.
        products = [weights.to(hidden.dtype)]
        if hidden.element_size() == 2:
            products.append((weights - products[0]).to(hidden.dtype))
        with inference():  # in float32, not in TF32
            return (patches.repeat(1, 1, len(products)) @ torch.cat(products, dim=1)).flatten(0, 1)


def _by_tap(conv: nn.Conv1d, more: int = 0) -> Tensor:
    """Weights [kernel * inputs, outputs]; of a convolution of one channel, zeros for so many taps more and as many as
    make their number a round one, which other kernels of products take less time for."""
    weight = conv.weight.detach().permute(2, 1, 0).flatten(0, 1)
    if conv.in_channels == 1:
        weight = nn.functional.pad(weight, (0, 0, 0, more + -(len(weight) + more) % _ROUND))
    return weight.contiguous()


def _patches(samples: Tensor, taps: int, stride: int) -> Tensor:
    """What each frame's taps see of samples [samples, 1]: [frames, taps]; behind the end are zeros."""
    padded = nn.functional.pad(samples[:, 0], (0, taps))
    return padded.unfold(0, taps, stride)[: len(samples) // stride].contiguous()


class PositionalConvolution(nn.Module):
    """Stands in for the grouped convolution of a positional embedding: [batch, channels, time] to the same.

    Kernels of grouped convolutions in short formats are slow at 128 taps of 48 channels a group (on an H100, sixteen
    times slower than this). Here every frame is a product of all that its taps see with all weights of its group; what
    frames as far apart as there are taps see does not overlap, and lies as a matrix already.
    """

    def __init__(self, original: nn.Conv1d):
        super().__init__()
        (self._kernel,), (self._padding,), self._groups = original.kernel_size, original.padding, original.groups
        by_group = original.weight.detach().unflatten(0, (self._groups, -1))  # [groups, outputs, inputs, kernel]
        self.weight = nn.Parameter(by_group.permute(0, 3, 2, 1).flatten(1, 2).contiguous(), requires_grad=False)
        self.bias = original.bias

    def forward(self, hidden: Tensor) -> Tensor:
        """Convolves [batch, channels, time]."""
        batch, channels, time = hidden.shape
        kernel, padding, width = self._kernel, self._padding, channels // self._groups
        length = time + 2 * padding  # of each utterance; they follow each other in rows of as many frames as taps
        rows = -(-batch * length // kernel)
        padded = hidden.new_zeros(self._groups, (rows + 1) * kernel, width)
        inner = padded[:, : batch * length].view(self._groups, batch, length, width)
        inner[:, :, padding : padding + time] = hidden.unflatten(1, (self._groups, width)).permute(1, 0, 3, 2)
        frames = hidden.new_empty(rows, kernel, self._groups, self.weight.shape[2])
        for group in range(self._groups):
            # Of every kernel-th frame all that it sees, [rows, taps * width], beginning with each frame in turn.
            of_group = padded[group]
            size, strides = (kernel, rows, kernel * width), (width, kernel * width, 1)
            seen = of_group.as_strided(size, strides, of_group.storage_offset())
            frames[:, :, group] = torch.bmm(seen, self.weight[group].expand(kernel, -1, -1)).transpose(0, 1)
        frames = frames.view(rows * kernel, -1)[: batch * length].view(batch, length, -1)
        frames = frames[:, : length - kernel + 1]
        return (frames if self.bias is None else frames + self.bias).transpose(1, 2)
