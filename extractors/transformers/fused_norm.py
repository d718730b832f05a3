"""Layer norms, and the GELU behind those of a front end, in one pass over memory, for NVIDIA GPUs.

PyTorch's layer norm reaches less than half of what an H100's memory yields in short formats, and the activation behind
it reads and writes everything once more. The values are PyTorch's to within rounding, and PyTorch computes them where
this does not work.

Beside `gated_attention` the one file that imports Triton.
"""

from functools import cache

import torch
from torch import Tensor, nn

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

_VALUES = 4096
"""In one program: a few rows."""


class FusedLayerNorm(nn.LayerNorm):
    """An `nn.LayerNorm` over the last axis, with a GELU behind it where asked for."""

    with_gelu = False

    def __init__(self, original: nn.LayerNorm, *, with_gelu: bool):
        super().__init__(original.normalized_shape, original.eps)
        self.weight, self.bias, self.with_gelu = original.weight, original.bias, with_gelu
        self.train(original.training)

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalises [..., width]."""
        if hidden.is_contiguous() and is_there(hidden.device):
            return _normalised(hidden, self.weight, self.bias, self.eps, self.with_gelu)
        hidden = super().forward(hidden)
        return nn.functional.gelu(hidden) if self.with_gelu else hidden


def fuse_norms(network: nn.Module) -> None:
    """Turns every layer norm of a network with weights and biases into a `FusedLayerNorm`, in place."""
    for module in network.modules():
        if type(module) is nn.LayerNorm and len(module.normalized_shape) == 1 and module.bias is not None:
            module.__class__ = FusedLayerNorm  # of which it has all but the GELU, so that nothing is copied


@cache
def is_there(device: torch.device) -> bool:
    """Whether the kernel can be had on the device. Tries it."""
    if triton is None or device.type != "cuda":
        return False
    try:
        with torch.inference_mode():
            one = torch.ones(1, 16, device=device)
            _normalised(one, one[0], one[0], 1e-5, True)
    except Exception:  # no compiler, one that fails, a driver that does not fit: PyTorch does it then
        return False
    return True


def _normalised(hidden: Tensor, weight: Tensor, bias: Tensor, eps: float, with_gelu: bool) -> Tensor:
    width = hidden.shape[-1]
    num_rows, padded = hidden.numel() // width, triton.next_power_of_2(width)
    rows = max(1, _VALUES // padded)
    result = torch.empty_like(hidden)
    with torch.cuda.device(hidden.device):
        fused_norm_kernel[(triton.cdiv(num_rows, rows),)](
            hidden, weight, bias, result, num_rows, width, eps,
            ROWS=rows, WIDTH=padded, WITH_GELU=with_gelu, num_warps=4,
        )  # fmt: skip
    return result


if triton is not None:

    @triton.jit(do_not_specialize=["num_rows"])
    def fused_norm_kernel(
        hidden, weight, bias, result, num_rows, width, eps,
        ROWS: tl.constexpr, WIDTH: tl.constexpr, WITH_GELU: tl.constexpr,
    ):  # fmt: skip
        """One program: ROWS rows, in float32."""
        rows, columns = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
        is_column = columns < width
        is_value = (rows < num_rows)[:, None] & is_column[None, :]
        place = rows.to(tl.int64)[:, None] * width + columns[None, :]
        values = tl.load(hidden + place, mask=is_value, other=0.0).to(tl.float32)
        gain = tl.load(weight + columns, mask=is_column, other=0.0).to(tl.float32)
        offset = tl.load(bias + columns, mask=is_column, other=0.0).to(tl.float32)
        mean = tl.sum(values, 1) / width
        centred = tl.where(is_value, values - mean[:, None], 0.0)
        deviation = tl.sqrt_rn(tl.sum(centred * centred, 1) / width + eps)
        normalised = centred / deviation[:, None] * gain[None, :] + offset[None, :]
        if WITH_GELU:
            normalised = 0.5 * normalised * (1.0 + tl.erf(normalised * 0.7071067811865476))
        tl.store(result + place, normalised.to(result.dtype.element_ty), mask=is_value)
