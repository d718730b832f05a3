"""WavLM's attention without the matrix of weights.

transformers gives WavLM eager attention alone: it computes and returns the weights of every pair of frames, which are
of no use here, and its mask is of a kind that PyTorch deprecates. The same sum goes through PyTorch's fused attention,
whose additive mask holds the gated relative position bias: equal to within rounding, in less time and memory.

Knows the attention module of transformers' WavLM.
"""

from types import MethodType

from torch import Tensor, nn


def patch_attention(layers: nn.ModuleList) -> None:
    """Makes WavLM's transformer layers attend through `scaled_dot_product_attention`, in place."""
    for layer in layers:
        layer.attention.torch_multi_head_self_attention = MethodType(_attend, layer.attention)


def _attend(module: nn.Module, hidden: Tensor, mask: Tensor | None, position_bias: Tensor) -> tuple[Tensor, None]:
    """Stands in for `WavLMAttention.torch_multi_head_self_attention`.

    Args:
        module: the attention module.
        hidden: [batch, time, dim].
        mask: bool [batch, time], true for valid frames; None where all are.
        position_bias: gated relative position bias [batch · heads, time, time], made for this call alone.

    Returns:
        What is attended to, [batch, time, dim], and no weights.
    """
    batch, time, dim = hidden.shape
    query, key, value = (
        projection(hidden).view(batch, time, module.num_heads, module.head_dim).transpose(1, 2)
        for projection in (module.q_proj, module.k_proj, module.v_proj)
    )
    bias = position_bias.view(batch, module.num_heads, time, time)
    if mask is not None:
        bias = bias.masked_fill_(~mask.bool()[:, None, None, :], float("-inf"))
    attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=module.scaling)
    return module.out_proj(attended.transpose(1, 2).reshape(batch, time, dim)), None
