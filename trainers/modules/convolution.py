"""Convolution of kernel 3, ReLU and max-pooling by 2 of short signals, as one matrix product: the fast path of a block.

Channels lie last, so that a pooled position and the four inputs that it sees are one row of a matrix: the window of
inputs times a matrix that holds the kernel twice, one step apart, gives both convolution outputs that the pool looks
at. Same values and gradients as `nn.Conv1d`, `nn.ReLU`, `nn.MaxPool1d`, which are the oracle in the tests, in about
half their time on a CPU for signals of this size (`benchmarks/heads.py`).
"""

import torch
from jaxtyping import Float
from torch import Tensor


def conv_relu_pool(
    x: Float[Tensor, "batch length channels"], weight: Float[Tensor, "out channels 3"], bias: Float[Tensor, " out"]
) -> Float[Tensor, "batch pooled out"]:
    """Convolution with zero padding of 1, ReLU, and the maximum of every two positions; an odd last one is alone."""
    return _ConvReluPool.apply(x, weight, bias)


class _ConvReluPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        batch, length, channels = x.shape
        out, pooled = len(weight), -(-length // 2)
        padded = x.new_zeros(batch, 2 * pooled + 2, channels)
        padded[:, 1 : length + 1] = x
        # Window i holds the padded positions 2i to 2i + 3; windows overlap by two positions.
        windows = padded.as_strided((batch, pooled, 4 * channels), (padded.stride(0), 2 * channels, 1))
        windows = windows.reshape(batch * pooled, 4 * channels)
        kernel = weight.permute(2, 1, 0)
        both = x.new_zeros(4, channels, 2, out)
        both[:3, :, 0], both[1:, :, 1] = kernel, kernel
        both = both.view(4 * channels, 2 * out)
        convolved = (windows @ both).view(batch, pooled, 2, out)
        if length % 2:
            convolved[:, -1, 1] = -torch.inf
        first, second = convolved.unbind(2)
        # The order of maximum, bias and ReLU is free, since each is monotone: the pool halves the others' work.
        y = torch.maximum(first, second).add_(bias).relu_()
        ctx.save_for_backward(windows, both, second > first, y)
        ctx.shape = x.shape
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        windows, both, second_won, y = ctx.saved_tensors
        batch, length, channels = ctx.shape
        pooled, out = y.shape[1:]
        grad = torch.ops.aten.threshold_backward(grad, y, 0)  # ReLU's, in one pass
        by_convolved = grad.new_empty(batch, pooled, 2, out)
        torch.mul(grad, second_won, out=by_convolved[:, :, 1])
        torch.sub(grad, by_convolved[:, :, 1], out=by_convolved[:, :, 0])
        by_convolved = by_convolved.view(batch * pooled, 2 * out)
        by_both = (windows.T @ by_convolved).view(4, channels, 2, out)
        by_weight = (by_both[:3, :, 0] + by_both[1:, :, 1]).permute(2, 1, 0)
        by_x = None
        if ctx.needs_input_grad[0]:
            halves = (by_convolved @ both.T).view(batch, pooled, 2, 2 * channels)
            padded = grad.new_zeros(batch, pooled + 1, 2 * channels)
            padded[:, :-1] = halves[:, :, 0]
            padded[:, 1:] += halves[:, :, 1]
            by_x = padded.view(batch, 2 * pooled + 2, channels)[:, 1 : length + 1]
        return by_x, by_weight, grad.sum((0, 1))
