"""How busy an extraction keeps its device: what a network computes, and the device's rate of matrix products.

Operations are those of matrix products, convolutions and attention, a multiplication and an addition being two; norms,
activations and Fourier transforms, of which there are few, are left out. Knows PyTorch, which is imported when it is
needed, and no model.
"""

from __future__ import annotations

import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_LARGEST = {"cpu": 2048, "cuda": 8192}
"""Side of the matrices: a larger product is no faster."""
_SMALLEST = 256
_PATIENCE_S = 0.5
"""A product of twice the side is not tried where one takes an eighth of this: CPUs without float16 take minutes."""
_PRODUCTS = {"cpu": 1, "cuda": 10}
"""In one timing: a GPU is through with one in less time than a clock tells."""
_TIMINGS = 7


def count_operations(compute: Callable[[], object]) -> float | None:
    """Floating-point operations of whatever network `compute` runs, exact, the padding of its batches included.

    Args:
        compute: is called once; an `extract` of any family.

    Returns:
        The count; None where nothing is computed with PyTorch.
    """
    if "torch" not in sys.modules:  # whoever computes with it has imported it; TensorFlow's process never should
        return None
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
        return sdpa_flop_count(query, key, value)

    # What PyTorch's own counter knows of attention is the GPU's kernels.
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={on_cpu: attention}) as counter:
        compute()
    return float(counter.get_total_flops()) or None


def matrix_rate(device: torch.device | str, compute_dtype: str) -> float:
    """Operations per second of large square matrix products: median of several timings, all threads of the device.

    Args:
        device: where.
        compute_dtype: of the factors, as in a view.
    """
    import torch

    device = torch.device(device)
    kind = "cuda" if device.type == "cuda" else "cpu"
    side = _SMALLEST
    while side < _LARGEST[kind] and 8 * _product_s(device, compute_dtype, side, _PRODUCTS[kind], 1) < _PATIENCE_S:
        side *= 2
    return 2 * side**3 / _product_s(device, compute_dtype, side, _PRODUCTS[kind], _TIMINGS)


def _product_s(device: torch.device, compute_dtype: str, side: int, products: int, timings: int) -> float:
    """Median seconds of a product of two matrices [side, side]."""
    import torch

    from strata.extractors.torch_setup import DTYPES, inference

    left, right = (torch.randn(side, side, device=device).to(DTYPES[compute_dtype]) for _ in range(2))
    result = torch.empty_like(left)
    times = []
    with inference(compute_dtype):
        for _ in range(1 + timings):
            synchronize(device)
            start = time.perf_counter()
            for _ in range(products):
                torch.mm(left, right, out=result)
            synchronize(device)
            times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) / products  # the first one warms up


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that it was given."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def device_name(device: str) -> str:
    """What a device is called by its maker, with the threads where it is the CPU."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    information = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", information.read_text()) if information.exists() else None
    name = found[1] if found else platform.processor() or platform.machine()
    if "torch" not in sys.modules:
        return name
    import torch

    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads > 1)}"


def forget_peak(device: str) -> None:
    """Begins to watch a GPU's memory anew; nothing on a CPU."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: str) -> int | None:
    """Most bytes of a GPU's memory that PyTorch has held since `forget_peak`; None on a CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_allocated(device)
