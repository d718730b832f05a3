"""What a shorter number format costs: every layer of models of real size against float32 (DESIGN §4)."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import write_table
from benchmarks.models import SHAPES, make_checkpoint, sounds
from strata import extractors
from strata.extractors.contract import SAMPLING_RATE
from strata.extractors.speed import device_name

FORMATS = ("tf32", "bfloat16", "float16")
UTTERANCES = {"cpu": [1.5, 1.0], "cuda": [1.0 + 0.5 * i for i in range(20)]}
"""Seconds of each, by kind of device: a CPU multiplies float16 slowly."""
COMMAND = "python -m benchmarks.precision"


class EmulatedTF32(TorchDispatchMode):
    """Shortens the factors of matrix products, convolutions and attention to TF32's ten bits of mantissa.

    The products themselves and their sums stay in float32, as on the chip.
    """

    _PRODUCTS = frozenset(
        {
            torch.ops.aten.mm,
            torch.ops.aten.addmm,
            torch.ops.aten.bmm,
            torch.ops.aten.baddbmm,
            torch.ops.aten.convolution,
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu,
        }
    )
    _BIASED = frozenset({torch.ops.aten.addmm, torch.ops.aten.baddbmm})
    """Their first operand is added and no factor."""

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        """Rounds the factors of a product and computes it."""
        named = named or {}
        operation = function.overloadpacket
        if operation not in self._PRODUCTS:
            # In inference mode linear maps and the like arrive whole; what they are made of comes back here.
            with self:
                result = function.decompose(*arguments, **named)
            return function(*arguments, **named) if result is NotImplemented else result
        first = 1 if operation in self._BIASED else 0
        # Attention has three: its weights, which are a factor too, stay inside the kernel and are not rounded.
        last = first + (3 if "attention" in str(operation) else 2)
        factors = [rounded(factor) for factor in arguments[first:last]]
        return function(*arguments[:first], *factors, *arguments[last:], **named)


def rounded(values: Tensor) -> Tensor:
    """float32 values to the nearest with ten bits of mantissa; of two as near, the even one."""
    bits = values.contiguous().view(torch.int32)
    even = (bits >> 13) & 1
    return ((bits + 0xFFF + even) & ~0x1FFF).view(torch.float32)


def main() -> None:
    """Measures in a temporary folder and writes the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    waveforms = sounds(UTTERANCES[device])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in SHAPES:
            view = {"family": "transformers", "source": str(make_checkpoint(name, Path(folder)))}
            exact = _pooled(view, waveforms, device)
            for number_format in FORMATS:
                emulated = number_format == "tf32" and device == "cpu"
                with _emulating() if emulated else nullcontext():
                    found = _pooled(view | {"compute_dtype": number_format}, waveforms, device)
                rows.append([name, number_format + (" (emulated)" if emulated else ""), *_cells(exact, found)])
    lines = [
        f"All layers pooled, random weights, {len(waveforms)} utterances of noise, on {device_name(device)}, PyTorch "
        f"{torch.__version__}.",
        "A layer's error: its largest difference from float32 over its largest value, of the worst utterance. In",
        "parentheses the relative error in L2, the more telling of the two: all dimensions count, and a few large",
        "ones, which speech models have, do not hide the error of the others. Random weights: indications only.",
    ]
    if device == "cpu":
        lines += [
            "Emulated: the factors of matrix products, convolutions and attention are rounded to TF32's ten bits of",
            "mantissa; attention's own weights are not.",
        ]
    header = ["model", "compute_dtype", "layer 0", "middle layer", "last layer", "worst layer"]
    write_table("Number formats" + (" on a GPU" if device == "cuda" else ""), COMMAND, header, rows, "\n".join(lines))


def _pooled(view: dict[str, object], waveforms: Sequence[np.ndarray], device: str) -> np.ndarray:
    """[utterances, layers, dim] in float64."""
    states = extractors.load(view, device=device).extract(waveforms, SAMPLING_RATE)
    return np.stack([state.pooled for state in states]).astype(np.float64)


@contextmanager
def _emulating() -> Iterator[None]:
    with torch.inference_mode(), EmulatedTF32():
        yield


def _cells(exact: np.ndarray, found: np.ndarray) -> list[str]:
    """Errors of layer 0, the middle one, the last, and the worst by either measure."""
    difference = found - exact
    largest = (np.abs(difference).max(axis=2) / np.abs(exact).max(axis=2)).max(axis=0)
    in_l2 = (np.linalg.norm(difference, axis=2) / np.linalg.norm(exact, axis=2)).max(axis=0)
    depth, worst = len(largest) - 1, int(in_l2.argmax())

    def cell(layer: int) -> str:
        return f"{largest[layer]:.1e} ({in_l2[layer]:.1e})"

    return [cell(0), f"{depth // 2}: {cell(depth // 2)}", f"{depth}: {cell(depth)}", f"{worst}: {cell(worst)}"]


if __name__ == "__main__":
    main()
