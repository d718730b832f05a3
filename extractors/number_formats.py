"""Short number formats, held against float32 on a probe before anything that they compute is kept.

Kernels of short formats are wrong on some processors: bfloat16 convolutions of 6 channels a group are off by 108 % on
CPUs with AMX, where those of 48 a group are right. So nothing is assumed: while the network hears a probe in float32,
each of its modules that has none within computes the same once more in the short format, from the very same input.
Rounding alone keeps it near (`MOST`); one that is not near is computed in float32 from then on, whatever the rest of
the network is in. What is left, such as attention, shows in the hidden states of the whole (`MOST_OVERALL`), and is
refused.

Knows a network and how to run it, not which model it is.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from strata.extractors.contract import ViewError

MOST = {torch.bfloat16: 0.04, torch.float16: 0.01}
"""Largest error of one module's channel, relative to the channel and to all of them: some ten roundings."""
MOST_OVERALL = {"bfloat16": 0.1, "float16": 0.03, "tf32": 0.03}
"""Largest error of a hidden state (L2), relative: what dozens of layers of rounding do not reach."""


def wrong_modules(network: nn.Module, run: Callable[[], object], dtype: torch.dtype) -> list[str]:
    """Names of the modules that are wrong in the short format, in the order of their first call.

    Args:
        network: in float32, in eval mode.
        run: runs it on the probe.
        dtype: the short format.
    """
    names = {module: name for name, module in network.named_modules() if not any(module.children())}
    wrong: dict[str, None] = {}

    def check(module: nn.Module, args: tuple, named: dict, output: object) -> None:
        short = deepcopy(module).to(dtype)
        found = short.forward(*_cast(args, dtype), **_cast(named, dtype))
        if isinstance(output, Tensor) and not _is_near(found, output, dtype):
            wrong.setdefault(names[module])

    handles = [module.register_forward_hook(check, with_kwargs=True) for module in names]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return list(wrong)


def shorten(network: nn.Module, dtype: torch.dtype, but: Iterable[str]) -> None:
    """Shortens a network in place, except for the modules of these names: they keep their weights, and compute in
    float32 what is handed to them and on from them in the short format."""
    kept = {name: deepcopy(network.get_submodule(name).state_dict()) for name in but}
    network.to(dtype)
    for name, weights in kept.items():
        module = network.get_submodule(name).float()
        module.load_state_dict(weights)
        module.forward = _in_float32(module.forward, dtype)


def refuse_wrong(exact: Mapping[str, Tensor], short: Mapping[str, Tensor], compute_dtype: str, device: str) -> None:
    """Raises ViewError where a hidden state by name is not what float32 makes of the same probe.

    An overflow of float16 is no wrong kernel: it depends on the recording, and is told with it.
    """
    for name, expected in exact.items():
        found = short[name]
        if compute_dtype == "float16" and not found.isfinite().all():
            return
        error = float((found - expected).norm() / expected.norm().clamp_min(1e-30))
        if not error <= MOST_OVERALL[compute_dtype]:
            raise ViewError(
                f"compute_dtype: {compute_dtype} is computed wrongly on this {device}: hidden state {name} of a probe "
                f"is off by {error:.0%} of float32's; write compute_dtype: float32"
            )


def _is_near(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    if float(expected.abs().max()) >= torch.finfo(dtype).max:
        return True  # beyond the format's range, which is no matter of the kernel
    expected = expected.float()
    # Channels lie first behind the batch in convolutions, last elsewhere: a wrong one shows along either axis.
    axes = {1, expected.dim() - 1} if expected.dim() > 1 else {0}
    error = (found.float() - expected).square()
    energy = expected.square()
    for axis in axes:
        others = [other for other in range(expected.dim()) if other != axis]
        scale = torch.maximum(energy.mean(dim=others), energy.mean()).clamp_min(1e-12)
        if not bool((error.mean(dim=others) <= MOST[dtype] ** 2 * scale).all()):
            return False
    return True


def _in_float32(forward: Callable, dtype: torch.dtype) -> Callable:
    def computed(*args: object, **named: object) -> object:
        return _cast(forward(*_cast(args, torch.float32), **_cast(named, torch.float32)), dtype)

    return computed


def _cast(values: object, dtype: torch.dtype) -> object:
    """Floating-point tensors in the format; whatever else stays as it is."""
    if isinstance(values, Tensor):
        return values.to(dtype) if values.is_floating_point() else values
    if isinstance(values, dict):
        return {key: _cast(value, dtype) for key, value in values.items()}
    if isinstance(values, tuple):
        return tuple(_cast(value, dtype) for value in values)
    return values
