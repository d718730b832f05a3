"""What each view's vector goes through before fusion: convolution blocks, and fully connected networks."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


class ConvBlocks(nn.Module):
    """Convolution blocks over a vector taken as a one-channel signal (TANGO §4, appendix 9.1).

    Each block is Conv1d of kernel 3, ReLU, max-pooling by 2; zero padding of 1 keeps short vectors alive (the paper is
    silent on padding).
    """

    def __init__(self, dim: int, channels: Sequence[int]):
        super().__init__()
        widths = [1, *channels]
        self.blocks = nn.Sequential(
            *(
                layer
                for fan_in, fan_out in zip(widths, channels, strict=False)
                for layer in (nn.Conv1d(fan_in, fan_out, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2, ceil_mode=True))
            )
        )
        self.num_positions = dim
        for _ in channels:
            self.num_positions = -(-self.num_positions // 2)
        self.num_channels = channels[-1]

    def forward(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch positions channels"]:
        """One vector of channels per position."""
        return self.blocks(x.unsqueeze(1)).transpose(1, 2)


class FullyConnected(nn.Sequential):
    """Linear layers with ReLU behind each: [batch, fan_in] to [batch, widths[-1]]."""

    def __init__(self, fan_in: int, widths: Sequence[int]):
        layers = []
        for width in widths:
            layers += [nn.Linear(fan_in, width), nn.ReLU()]
            fan_in = width
        super().__init__(*layers)
        self.num_outputs = fan_in
