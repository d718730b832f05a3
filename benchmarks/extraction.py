"""Extraction against a plain loop over utterances, on models of real size with random weights (DESIGN §11)."""

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from strata import extractors
from strata.extractors.contract import SAMPLING_RATE, Size
from strata.extractors.speed import count_operations, matrix_rate, synchronize
from strata.extractors.torch_setup import inference, resolve_device

from benchmarks import write_table
from benchmarks.models import SHAPES, Loop, make_checkpoint, sounds

EQUAL, MIXED = "equal lengths", "mixed lengths"
UTTERANCES = {
    "cpu": {EQUAL: [4.0] * 2, MIXED: [12.0, 1.0, 5.0, 2.0]},
    "cuda": {EQUAL: [8.0] * 128, MIXED: [1.0 + 11.0 * i / 127 for i in range(128)]},
}
"""Seconds of each utterance, by kind of device."""
CUT = {"layers": {"upto": 17}}
CUT_NAME = "cut at 17 of 24"
ROUNDS = 3
PRECISION = 1e-4
COMMAND = "python -m benchmarks.extraction"
WHOLE_REACH, CUT_REACH = "≥ 1.0×", "≥ 1.3×"
GPU_REACH = "≥ 10×, ≥ 40 % of the matrix rate"
NOT_MEASURED = "not measured: no accelerator at hand"


@dataclass(frozen=True)
class Found:
    """One comparison."""

    model: str
    is_cut: bool
    device: str
    utterances: str
    reach: str
    times: Mapping[str, float]
    """Median seconds of `loop` and `ours`."""
    ratio: float
    """Median of the rounds' ratios of the loop's time to ours."""
    share: float
    """Of the device's rate of matrix products that ours reaches."""
    size: Size


def main() -> None:
    """Measures in a temporary folder and writes both tables."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = {name: make_checkpoint(name, Path(folder)) for name in SHAPES}
        for device in devices:
            rate = matrix_rate(device, "float32")
            for name, checkpoint in checkpoints.items():
                found += _compared(name, checkpoint, device, rate)
    _write(found, without_gpu="cuda" not in devices)
    _write_cut(found)


def _compared(name: str, checkpoint: Path, device: str, rate: float) -> list[Found]:
    """All comparisons of one model on one device."""
    loop = Loop(checkpoint, resolve_device(device))
    view = {"family": "transformers", "source": str(checkpoint)}
    subjects = {"": extractors.load(view, device=device)}
    if name == "WavLM-Large":
        subjects[CUT_NAME] = extractors.load(view | CUT, device=device)
    found = []
    for utterances, seconds in UTTERANCES[device].items():
        waveforms = sounds(seconds)
        with inference():  # without TF32, which PyTorch's convolutions have by default on a GPU
            expected = loop.extract(waveforms)
        for extractor in subjects.values():  # which warms them up as well
            _check(expected, [states.pooled for states in extractor.extract(waveforms, SAMPLING_RATE)])
        actions = {"loop": lambda waveforms=waveforms: loop.extract(waveforms)}
        for cut, extractor in subjects.items():
            actions[cut] = lambda e=extractor, w=waveforms: e.extract(w, SAMPLING_RATE)
        times = _timed(actions, device)
        for cut, extractor in subjects.items():
            ours = statistics.median(times[cut])
            ratio = statistics.median(one / other for one, other in zip(times["loop"], times[cut], strict=True))
            share = count_operations(actions[cut]) / ours / rate
            reach = GPU_REACH if device == "cuda" else CUT_REACH if cut else WHOLE_REACH if utterances == EQUAL else "–"
            both = {"loop": statistics.median(times["loop"]), "ours": ours}
            found.append(Found(name, bool(cut), device, _describe(utterances, seconds), reach, both, ratio, share,
                               extractor.size))  # fmt: skip
    return found


def _timed(actions: Mapping[str, Callable[[], object]], device: str) -> dict[str, list[float]]:
    """Seconds of each action in every round, the actions taking turns."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS):
        for name, action in actions.items():
            start = perf_counter()
            action()
            synchronize(torch.device(device))
            times[name].append(perf_counter() - start)
    return times


def _check(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> None:
    """Raises ValueError unless the layers that ours has are the loop's; what a final norm makes of the last is not."""
    for right, ours in zip(expected, found, strict=True):
        layers = min(len(ours), len(right) - 1)
        error = np.abs(ours[:layers] - right[:layers]).max(axis=1) / np.abs(right[:layers]).max(axis=1)
        if error.max() > PRECISION:
            raise ValueError(f"expected the loop's values to within {PRECISION}, got an error of {error.max():.1e}")


def _describe(utterances: str, seconds: Sequence[float]) -> str:
    span = f"{seconds[0]:g} s" if utterances == EQUAL else f"{min(seconds):g} to {max(seconds):g} s"
    return f"{len(seconds)} of {span}"


def _write(found: Sequence[Found], *, without_gpu: bool) -> None:
    rows = [
        [
            each.model + (f", {CUT_NAME}" if each.is_cut else ""),
            each.device,
            each.utterances,
            f"{each.times['loop']:.2f} s",
            f"{each.times['ours']:.2f} s",
            f"{each.ratio:.2f}×",
            each.reach,
            f"{each.share:.0%}",
        ]
        for each in found
    ]
    if without_gpu:
        rows += [[name, "cuda", "–", "–", "–", NOT_MEASURED, GPU_REACH, "–"] for name in SHAPES]
    lines = [
        f"All layers pooled, random weights, float32, {torch.get_num_threads()} threads, PyTorch {torch.__version__}; "
        f"medians of {ROUNDS} rounds in which all take turns.",
        "The loop: AutoFeatureExtractor and AutoModel, utterance by utterance, every hidden state averaged over time.",
        f"Both give the same values to within {PRECISION:g}. The last column: operations per second that Strata",
        "reaches, as a share of what large square matrix products reach here.",
    ]
    header = ["model", "device", "utterances", "loop", "Strata", "ratio", "reach", "of matrix rate"]
    write_table("Extraction", COMMAND, header, rows, "\n".join(lines))


def _write_cut(found: Sequence[Found]) -> None:
    whole = {(each.model, each.device, each.utterances): each for each in found if not each.is_cut}
    rows = []
    for each in filter(lambda one: one.is_cut, found):
        size, before = each.size, whole[each.model, each.device, each.utterances].times["ours"]
        memory = [f"{count * size.itemsize / 1e9:.2f} GB" for count in (size.whole, size.parameters)]
        rows.append(
            [
                f"{each.model}, {CUT_NAME}",
                each.device,
                each.utterances,
                f"{1 - each.times['ours'] / before:.0%}",
                f"{size.whole / 1e6:.0f} M → {size.parameters / 1e6:.0f} M",
                " → ".join(memory),
                f"{1 - size.parameters / size.whole:.0%}",
            ]
        )
    header = ["model", "device", "utterances", "time saved", "parameters", "weights", "of them saved"]
    write_table("Cutting the upstream", COMMAND, header, rows, "Against the whole model, both by Strata.")


if __name__ == "__main__":
    main()
