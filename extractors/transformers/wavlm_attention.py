"""WavLM's attention without the matrix of weights.

transformers gives WavLM eager attention alone: it computes and returns the weights of every pair of frames, which are
of no use here, repeats the position bias for every utterance of a batch, and masks in a way that PyTorch deprecates.
The same sum goes through PyTorch's fused attention, whose additive mask holds the gated relative position bias: equal
to within rounding, in less time and memory.

Knows the attention module of transformers' WavLM. Source: Chen et al., *WavLM: large-scale self-supervised pre-training
for full stack speech processing*, 2022, eqs 5 to 8.
"""

from types import MethodType

from torch import Tensor, nn


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
        position_bias = module.compute_bias(time, time)[None].to(hidden_states.dtype)
    by_head = hidden_states.view(batch, time, heads, width).transpose(1, 2)
    gates = module.gru_rel_pos_linear(by_head).view(batch, heads, time, 2, 4).sum(-1).sigmoid()
    update, reset = gates.split(1, dim=-1)
    bias = (update * (reset * module.gru_rel_pos_const - 1.0) + 2.0) * position_bias
    if attention_mask is not None:
        bias.masked_fill_(~attention_mask.bool()[:, None, None, :], float("-inf"))
    query, key, value = (
        projection(hidden_states).view(batch, time, heads, width).transpose(1, 2)
        for projection in (module.q_proj, module.k_proj, module.v_proj)
    )
    attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=module.scaling)
    return module.out_proj(attended.transpose(1, 2).reshape(batch, time, dim)), None, position_bias
