"""Attention with WavLM's gated position bias as one kernel of Triton's, for NVIDIA GPUs from Ampere on.

PyTorch's fused attention wants the bias of every pair of frames, of every head and utterance, written out: on a GPU
that takes longer than attention itself. Here it is made of the gate of each frame and of the position bias that all
utterances share, where it is needed. Frames beyond an utterance's end are neither looked at nor computed.

The one file that imports Triton, which comes with PyTorch for CUDA. Without it, or without the compiler that it calls,
`wavlm_attention` does it in PyTorch. Source of the algorithm: Dao, *FlashAttention-2*, 2023, algorithm 1.
"""

from functools import cache

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

_WIDTHS = (16, 32, 64)
"""Of a head: what the kernel's products take."""
_ROWS = 64
"""Frames that attend in one program, and that it looks at in one step."""
_LOG2_E = 1.4426950408889634
"""Powers are those of two, which processors have."""


@cache
def is_there(device: torch.device, width: int) -> bool:
    """Whether the kernel can be had on the device, for heads of that width. Tries it."""
    if triton is None or device.type != "cuda" or width not in _WIDTHS:
        return False
    if torch.cuda.get_device_capability(device) < (8, 0):
        return False
    with torch.inference_mode():
        one = torch.ones(1, 1, 1, width, device=device)
        try:
            attend(one, one, one, one[..., :1], one[:, 0, :, :1], None, 1.0)
        except Exception:  # no compiler, one that fails, a driver that does not fit: there is another way
            return False
    return True


@torch.library.custom_op("strata::gated_attention", mutates_args=())
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gate: Tensor,
    position_bias: Tensor,
    lengths: Tensor | None,
    scale: float,
) -> Tensor:
    """softmax(query · key × scale + gate × position_bias) · value.

    Args:
        query: [batch, time, heads, width], the last axis contiguous, as that of key and value.
        key: likewise, with the same strides.
        value: likewise.
        gate: [batch, time, heads, 1], contiguous.
        position_bias: [heads, time, time], the last axis contiguous.
        lengths: [batch], frames to be looked at; None: all.
        scale: of the products.

    Returns:
        [batch, time, heads, width], contiguous; zeros beyond the lengths.
    """
    batch, time, heads, width = query.shape
    result = torch.empty_like(query, memory_format=torch.contiguous_format)
    precision = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"
    with torch.cuda.device(query.device):
        gated_attention_kernel[(triton.cdiv(time, _ROWS), batch * heads)](
            query, key, value, gate, position_bias, lengths, result,
            query.stride(0), query.stride(1), query.stride(2), position_bias.stride(0), position_bias.stride(1),
            time, heads, scale * _LOG2_E,
            HAS_LENGTHS=lengths is not None, WIDTH=width, ROWS=_ROWS, PRECISION=precision, PER_NAT=_LOG2_E,
            num_warps=4, num_stages=2,
        )  # fmt: skip
    return result


@register_flop_formula(torch.ops.strata.gated_attention)
def _operations(query: torch.Size, *_: object, **__: object) -> int:
    batch, time, heads, width = query
    return 4 * batch * heads * time**2 * width


if triton is not None:

    @triton.jit(do_not_specialize=["time"])
    def gated_attention_kernel(
        query, key, value, gate, position_bias, lengths, result,
        of_batch, of_time, of_head, bias_of_head, bias_of_time,
        time, heads, scale,
        HAS_LENGTHS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
        PRECISION: tl.constexpr, PER_NAT: tl.constexpr,
    ):  # fmt: skip
        """One program: ROWS frames of one head of one utterance."""
        item = tl.program_id(1)
        utterance, head = item // heads, item % heads
        length = tl.load(lengths + utterance).to(tl.int32) if HAS_LENGTHS else time
        first = tl.program_id(0) * ROWS
        rows, columns, within = first + tl.arange(0, ROWS), tl.arange(0, ROWS), tl.arange(0, WIDTH)
        is_row = (rows < time)[:, None]
        start = utterance.to(tl.int64) * of_batch + head * of_head
        asked = tl.load(query + start + rows[:, None] * of_time + within[None, :], mask=is_row, other=0.0)
        gates = (
            tl.load(gate + (utterance.to(tl.int64) * time + rows) * heads + head, mask=rows < time, other=0.0).to(
                tl.float32
            )
            * 1.44269504
        )
        bias_row = position_bias + head.to(tl.int64) * bias_of_head + rows[:, None] * bias_of_time
        largest = tl.full([ROWS], float("-inf"), tl.float32)
        total = tl.zeros([ROWS], tl.float32)
        attended = tl.zeros([ROWS, WIDTH], tl.float32)
        for step in range(0, tl.where(first < length, length, 0), ROWS):
            seen = step + columns
            is_seen = seen < length
            place = start + seen[:, None] * of_time + within[None, :]
            keys = tl.load(key + place, mask=is_seen[:, None], other=0.0)
            values = tl.load(value + place, mask=is_seen[:, None], other=0.0)
            bias = tl.load(bias_row + seen[None, :], mask=is_row & is_seen[None, :], other=0.0).to(tl.float32)
            scores = tl.dot(asked, tl.trans(keys), input_precision=PRECISION) * scale + gates[:, None] * bias
            scores = tl.where(is_seen[None, :], scores, float("-inf"))
            now = tl.maximum(largest, tl.max(scores, 1))
            weights = tl.exp2(scores - now[:, None])
            shrink = tl.exp2(largest - now)
            total = total * shrink + tl.sum(weights, 1)
            attended = attended * shrink[:, None]
            attended += tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
            largest = now
        attended = tl.where((rows < length)[:, None], attended / total[:, None], 0.0)
        place = (utterance.to(tl.int64) * time + rows[:, None]) * heads * WIDTH + head * WIDTH + within[None, :]
        tl.store(result + place, attended.to(result.dtype.element_ty), mask=is_row)
