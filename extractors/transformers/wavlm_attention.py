"""WavLM's attention without the matrix of weights.

transformers gives WavLM eager attention alone: it computes and returns the weights of every pair of frames, which are
of no use here, repeats the position bias for every utterance of a batch, and masks in a way that PyTorch deprecates.
The same sum goes through PyTorch's fused attention, whose additive mask holds the gated relative position bias: equal
to within rounding, in less time and memory. On GPUs that have it, through a kernel that needs no such mask
(`gated_attention`).

Knows the attention module of transformers' WavLM. Source: Chen et al., *WavLM: large-scale self-supervised pre-training
for full stack speech processing*, 2022, eqs 5 to 8.
"""

from types import MethodType

import torch
from torch import Tensor, nn

from strata.extractors.transformers import gated_attention

_ROW = 16
"""Values: 32 bytes of the shortest formats."""


def patch_attention(layers: nn.ModuleList) -> None:
    """Makes WavLM's transformer layers attend through `scaled_dot_product_attention`, in place."""
    for layer in layers:
        layer.attention.forward = MethodType(_attend, layer.attention)


def _attend(
    module: nn.Module,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    position_bias: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None, Tensor]:
    """Stands in for `WavLMAttention.forward`, whose argument names it keeps.

    Args:
        module: the attention module; only that of the first layer has the embedding that makes the position bias.
        hidden_states: [batch, time, dim].
        attention_mask: true or 1 [batch, time] for valid frames; None where all are.
        position_bias: relative position bias [1, heads, time, time] that an earlier layer returned; None in the first.

    Returns:
        What is attended to, [batch, time, dim]; no weights; the position bias, for the layers above.
    """
    batch, time, dim = hidden_states.shape
    heads, width = module.num_heads, module.head_dim
    if position_bias is None:
        # In rows of a length that the kernels take as it is: others they would copy.
        position_bias = hidden_states.new_empty(1, heads, time, time + -time % _ROW)[..., :time]
        position_bias.copy_(module.compute_bias(time, time))
    by_head = hidden_states.view(batch, time, heads, width)
    gates = module.gru_rel_pos_linear(by_head).view(batch, time, heads, 2, 4).sum(-1).sigmoid()
    update, reset = gates.split(1, dim=-1)
    gate = update * (reset * module.gru_rel_pos_const.view(heads, 1) - 1.0) + 2.0
    query, key, value = (
        projection(hidden_states).view(by_head.shape) for projection in (module.q_proj, module.k_proj, module.v_proj)
    )
    if gated_attention.is_there(hidden_states.device, width):
        lengths = None if attention_mask is None else attention_mask.sum(dim=1)
        attended = gated_attention.attend(query, key, value, gate, position_bias[0], lengths, module.scaling)
    else:
        bias = _bias(gate.transpose(1, 2), position_bias, attention_mask)
        query, key, value = (projected.transpose(1, 2) for projected in (query, key, value))
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=module.scaling)
        attended = attended.transpose(1, 2)
    return module.out_proj(attended.reshape(batch, time, dim)), None, position_bias


def _bias(gate: Tensor, position_bias: Tensor, attention_mask: Tensor | None) -> Tensor:
    """What is added to the scores, [batch, heads, time, time]: the position bias by the gate [batch, heads, time, 1],
    minus infinity for padding."""
    batch, heads, time, _ = gate.shape
    bias = gate.new_empty(batch, heads, time, position_bias.stride(2))[..., :time]
    if attention_mask is None:
        return torch.mul(gate, position_bias, out=bias)
    outside = torch.zeros_like(attention_mask, dtype=bias.dtype).masked_fill_(~attention_mask.bool(), -torch.inf)
    return torch.addcmul(outside[:, None, None, :], gate, position_bias, out=bias)
