"""Extraction on a CPU against a plain loop over utterances, on models of real size with random weights (DESIGN §11).

`benchmarks.extraction_gpu` is for GPUs.
"""

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from benchmarks import write_table
from benchmarks.models import SHAPES, Loop, make_checkpoint, sounds
from strata import extractors
from strata.extractors.contract import SAMPLING_RATE, Size
from strata.extractors.speed import count_operations, matrix_rate

EQUAL, MIXED = "equal lengths", "mixed lengths"
UTTERANCES = {EQUAL: [4.0] * 2, MIXED: [12.0, 1.0, 5.0, 2.0]}
"""Seconds of each utterance."""
CUT = {"layers": {"upto": 17}}
CUT_NAME = "cut at 17 of 24"
ROUNDS = 3
PRECISION = 1e-4
COMMAND = "python -m benchmarks.extraction"
WHOLE_REACH, CUT_REACH = "≥ 1.0×", "≥ 1.3×"


@dataclass(frozen=True)
class Found:
    """One comparison."""

    model: str
    is_cut: bool
    utterances: str
    reach: str
    times: Mapping[str, float]
    """Median seconds of `loop` and `ours`."""
    ratio: float
    """Median of the rounds' ratios of the loop's time to ours."""
    share: float
    """Of the CPU's rate of matrix products that ours reaches."""
    size: Size


def main() -> None:
    """Measures in a temporary folder and writes both tables."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        rate = matrix_rate("cpu", "float32")
        for name in SHAPES:
            found += _compared(name, make_checkpoint(name, Path(folder)), rate)
    _write(found)
    _write_cut(found)


def _compared(name: str, checkpoint: Path, rate: float) -> list[Found]:
    """All comparisons of one model."""
    loop = Loop(checkpoint, torch.device("cpu"))
    view = {"family": "transformers", "source": str(checkpoint)}
    subjects = {"": extractors.load(view, device="cpu")}
    if name == "WavLM-Large":
        subjects[CUT_NAME] = extractors.load(view | CUT, device="cpu")
    found = []
    for utterances, seconds in UTTERANCES.items():
        waveforms = sounds(seconds)
        expected = loop.extract(waveforms)
        for extractor in subjects.values():  # which warms them up as well
            _check(expected, [states.pooled for states in extractor.extract(waveforms, SAMPLING_RATE)])
        actions = {"loop": lambda waveforms=waveforms: loop.extract(waveforms)}
        for cut, extractor in subjects.items():
            actions[cut] = lambda e=extractor, w=waveforms: e.extract(w, SAMPLING_RATE)
        times = _timed(actions)
        for cut, extractor in subjects.items():
            ours = statistics.median(times[cut])
            ratio = statistics.median(one / other for one, other in zip(times["loop"], times[cut], strict=True))
            share = count_operations(actions[cut]) / ours / rate
            reach = CUT_REACH if cut else WHOLE_REACH if utterances == EQUAL else "–"
            both = {"loop": statistics.median(times["loop"]), "ours": ours}
            found.append(Found(name, bool(cut), _describe(utterances, seconds), reach, both, ratio, share,
                               extractor.size))  # fmt: skip
    return found


def _timed(actions: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each action in every round, the actions taking turns."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS):
        for name, action in actions.items():
            start = perf_counter()
            action()
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


def _write(found: Sequence[Found]) -> None:
    rows = [
        [
            each.model + (f", {CUT_NAME}" if each.is_cut else ""),
            each.utterances,
            f"{each.times['loop']:.2f} s",
            f"{each.times['ours']:.2f} s",
            f"{each.ratio:.2f}×",
            each.reach,
            f"{each.share:.0%}",
        ]
        for each in found
    ]
    lines = [
        f"All layers pooled, random weights, float32, {torch.get_num_threads()} threads, PyTorch {torch.__version__}; "
        f"medians of {ROUNDS} rounds in which all take turns.",
        "The loop: AutoFeatureExtractor and AutoModel, utterance by utterance, every hidden state averaged over time.",
        f"Both give the same values to within {PRECISION:g}. The last column: operations per second that Strata",
        "reaches, as a share of what large square matrix products reach here.",
    ]
    header = ["model", "utterances", "loop", "Strata", "ratio", "reach", "of matrix rate"]
    write_table("Extraction", COMMAND, header, rows, "\n".join(lines))


def _write_cut(found: Sequence[Found]) -> None:
    whole = {(each.model, each.utterances): each for each in found if not each.is_cut}
    rows = []
    for each in filter(lambda one: one.is_cut, found):
        size, before = each.size, whole[each.model, each.utterances].times["ours"]
        memory = [f"{count * size.itemsize / 1e9:.2f} GB" for count in (size.whole, size.parameters)]
        rows.append(
            [
                f"{each.model}, {CUT_NAME}",
                each.utterances,
                f"{1 - each.times['ours'] / before:.0%}",
                f"{size.whole / 1e6:.0f} M → {size.parameters / 1e6:.0f} M",
                " → ".join(memory),
                f"{1 - size.parameters / size.whole:.0%}",
            ]
        )
    header = ["model", "utterances", "time saved", "parameters", "weights", "of them saved"]
    write_table("Cutting the upstream", COMMAND, header, rows, "Against the whole model, both by Strata.")


if __name__ == "__main__":
    main()
