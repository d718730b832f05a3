"""What each view's vector goes through before fusion: convolution blocks, and fully connected networks."""

import itertools
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from strata.trainers.modules.convolution import conv_relu_pool


class ConvBlocks(nn.Module):
    """Convolution blocks over a vector taken as a one-channel signal (TANGO §4, appendix 9.1).

    Each block is Conv1d of kernel 3, ReLU, max-pooling by 2; zero padding of 1 keeps short vectors alive (the paper is
    silent on padding).
    """

    def __init__(self, dim: int, channels: Sequence[int]):
        super().__init__()
        widths = [1, *channels]
        self.convolutions = nn.ModuleList(nn.Conv1d(*fans, 3, padding=1) for fans in itertools.pairwise(widths))
        self.num_positions = dim
        for _ in channels:
            self.num_positions = -(-self.num_positions // 2)
        self.num_channels = channels[-1]

    def forward(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch positions channels"]:
        """One vector of channels per position."""
        x = x.unsqueeze(2)
        for convolution in self.convolutions:
            x = conv_relu_pool(x, convolution.weight, convolution.bias)
        return x


class FullyConnected(nn.Sequential):
    """Linear layers with ReLU behind each: [batch, fan_in] to [batch, widths[-1]]."""

    def __init__(self, fan_in: int, widths: Sequence[int]):
        layers = []
        for width in widths:
            layers += [nn.Linear(fan_in, width), nn.ReLU()]
            fan_in = width
        super().__init__(*layers)
        self.num_outputs = fan_in
