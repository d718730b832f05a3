"""Extraction on a GPU against a plain loop over utterances, and from files (DESIGN §11); models of the published sizes
with random weights, in every number format. Says nothing where there is no GPU."""

import io
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import soundfile
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import write_table
from benchmarks.models import SHAPES, Loop, make_checkpoint, operations, sounds
from strata import extractors
from strata.extractors.contract import SAMPLING_RATE
from strata.extractors.speed import device_name, forget_peak, matrix_rate, peak_memory, synchronize
from strata.extractors.torch_setup import DTYPES, inference
from strata.pipeline import cli

DEVICE = torch.device("cuda:0")
FORMATS = ("float32", "tf32", "bfloat16")
NUM_UTTERANCES = 480
OF_LOOP = 8
"""The loop hears every so many-th utterance; its time counts for all audio."""
ROUNDS = 3
NUM_FILES = 1000
FROM_FILES = (("WavLM-Large", "float32"), ("WavLM-Large", "bfloat16"), ("wav2vec2-base", "bfloat16"))
PRECISION = 1e-4
COMMAND = "python -m benchmarks.extraction_gpu"
REACH = (
    "To reach: ≥ 10× and ≥ 40 %. Where the loop itself has more than a tenth of the rate, ten times as fast is more "
    "than there is."
)
KINDS = {
    "attention": ("fmha", "sdpa", "flash", "gated_attention"),
    "products": ("gemm", "nvjet", "cutlass", "fprop", "nchwToNhwc", "nhwcToNchw"),
    "norms and GELU": ("layer_norm", "Gelu", "fused_norm"),
    "copies": ("Memcpy", "Memset", "copy_kernel"),
}
"""What kernels are called, in the order in which it is looked for; the rest is "other"."""


@dataclass(frozen=True)
class Found:
    """One model in one format."""

    model: str
    compute_dtype: str
    loop_s: float
    """Of all audio."""
    ours_s: float
    rate: float
    """Operations per second of large matrix products."""
    operations: float
    """Of the network on all utterances, one by one."""
    peak_bytes: int
    batch_s: float
    kernel_s: dict[str, float]
    """Seconds in which the GPU computes, by kind of kernel."""

    @property
    def busy(self) -> float:
        """Share of the time in which the GPU computes."""
        return sum(self.kernel_s.values()) / self.ours_s


def main() -> None:
    """Measures in a temporary folder and writes the tables."""
    if not torch.cuda.is_available():
        print("benchmarks.extraction_gpu: no GPU here, nothing measured", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = {name: make_checkpoint(name, Path(folder)) for name in SHAPES}
        _write([found for name, place in checkpoints.items() for found in _measured(name, place)])
        _write_files(_from_files(Path(folder), checkpoints))


def durations(count: int) -> np.ndarray:
    """Seconds of so many utterances: log-normal about 5 s, held within 2 and 12 s."""
    return np.clip(np.random.default_rng(0).lognormal(np.log(5), 0.5, count), 2, 12)


def _measured(name: str, checkpoint: Path) -> list[Found]:
    waveforms = sounds(durations(NUM_UTTERANCES))
    heard = waveforms[::OF_LOOP]
    share = sum(map(len, heard)) / sum(map(len, waveforms))
    total = sum(operations(name, len(waveform)) for waveform in waveforms)
    found = []
    for compute_dtype in FORMATS:
        loop = Loop(checkpoint, DEVICE, DTYPES[compute_dtype])
        view = {"family": "transformers", "source": str(checkpoint), "compute_dtype": compute_dtype}
        ours = extractors.load(view, device=str(DEVICE))
        with inference(compute_dtype):
            expected = loop.extract(heard)
        forget_peak(str(DEVICE))
        values = [states.pooled for states in ours.extract(waveforms, SAMPLING_RATE)][::OF_LOOP]
        peak = peak_memory(str(DEVICE))
        if compute_dtype == "float32":
            _check(expected, values)

        def of_loop(loop: Loop = loop, compute_dtype: str = compute_dtype) -> object:
            with inference(compute_dtype):
                return loop.extract(heard)

        def of_ours(ours: extractors.Extractor = ours) -> object:
            return ours.extract(waveforms, SAMPLING_RATE)

        times = [(_seconds(of_loop) / share, _seconds(of_ours)) for _ in range(ROUNDS)]
        loop_s, ours_s = (statistics.median(column) for column in zip(*times, strict=True))
        rate = matrix_rate(DEVICE, compute_dtype)
        kernels = _kernels(of_ours)
        found.append(Found(name, compute_dtype, loop_s, ours_s, rate, total, peak, ours.batch_s, kernels))
        print(found[-1], flush=True)
        del loop, ours, of_loop, of_ours
        torch.cuda.empty_cache()
    return found


def _seconds(action: Callable[[], object]) -> float:
    synchronize(DEVICE)
    start = perf_counter()
    action()
    synchronize(DEVICE)
    return perf_counter() - start


def _kernels(action: Callable[[], object]) -> dict[str, float]:
    """Seconds of an action's kernels, by kind."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        _seconds(action)
    kinds = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in profiled.key_averages():
        kind = next((kind for kind, names in KINDS.items() if any(name in event.key for name in names)), "other")
        kinds[kind] += event.self_device_time_total / 1e6
    return kinds


def _check(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> None:
    """Raises ValueError unless the layers that ours has are the loop's; what a final norm makes of the last is not."""
    for right, ours in zip(expected, found, strict=True):
        layers = len(ours) - 1
        error = np.abs(ours[:layers] - right[:layers]).max(axis=1) / np.abs(right[:layers]).max(axis=1)
        if not error.max() <= PRECISION:
            raise ValueError(f"expected the loop's values to within {PRECISION}, got an error of {error.max():.1e}")


def _write(found: Sequence[Found]) -> None:
    total_s = durations(NUM_UTTERANCES).sum()
    exact = {each.model: each.loop_s for each in found if each.compute_dtype == "float32"}
    rows, shares = [], []
    for each in found:
        reached = each.operations / each.ours_s / each.rate
        rows.append(
            [
                each.model,
                each.compute_dtype,
                f"{1000 * each.loop_s / NUM_UTTERANCES:.1f} ms",
                f"{1000 * each.ours_s / NUM_UTTERANCES:.2f} ms",
                f"{each.loop_s / each.ours_s:.1f}× ({exact[each.model] / each.ours_s:.1f}×)",
                f"{total_s / each.ours_s:,.0f}",
                f"{each.operations / each.ours_s / 1e12:.0f} of {each.rate / 1e12:.0f} TFLOP/s",
                f"{reached:.0%} ({each.operations / each.loop_s / each.rate:.0%})",
                f"{each.peak_bytes / 1e9:.1f} GB",
            ]
        )
        parts = [f"{seconds / each.ours_s:.0%}" for seconds in each.kernel_s.values()]
        shares.append([each.model, each.compute_dtype, f"{each.busy:.0%}", *parts])
    about = f"On {device_name(str(DEVICE))}, PyTorch {torch.__version__}, random weights."
    lines = [
        about,
        f"All layers pooled; {NUM_UTTERANCES} utterances of noise, log-normal about 5 s within 2 to 12 s,",
        f"{total_s / 60:.0f} min together; medians of {ROUNDS} rounds in which both take turns, from waveforms in",
        f"memory to pooled layers in memory. The loop hears every {OF_LOOP}th utterance: AutoFeatureExtractor and",
        "AutoModel in the same format, hidden states averaged on the device, one transfer each. No TF32 in float32 on",
        f"both sides, and the values agree to within {PRECISION:g}. In parentheses: against the loop in float32.",
        "Operations are the network's on each utterance by itself, without padding; the matrix rate is that of large",
        "square products in the same format; in parentheses the share that the loop reaches.",
        REACH,
    ]
    header = ["model", "format", "loop, each", "Strata, each", "ratio", "× real time", "rate", "share", "peak memory"]
    write_table("Extraction on a GPU", COMMAND, header, rows, "\n".join(lines))
    lines = [
        about,
        "Kernels' time, as the profiler saw it, over the whole time of the table above, and of that each kind of",
        "kernel. (Over 100 %: they took longer under the profiler.) What is lacking to the whole is a GPU that waits",
        "for the host: for kernels, which it calls one by one, for the first batch, and for the last to be put",
        "together.",
    ]
    header = ["model", "format", "busy", *found[0].kernel_s]
    write_table("What a GPU does in an extraction", COMMAND, header, shares, "\n".join(lines))


def _from_files(folder: Path, checkpoints: dict[str, Path]) -> list[dict]:
    """What `strata bench extract` says of each view, on files of 16-bit WAV."""
    recordings = folder / "study" / "recordings"
    recordings.mkdir(parents=True)
    lengths = durations(NUM_FILES)

    def record(number: int) -> str:
        noise = 0.1 * np.random.default_rng(number).standard_normal(round(lengths[number] * SAMPLING_RATE))
        soundfile.write(recordings / f"{number:04d}.wav", noise, SAMPLING_RATE, subtype="PCM_16")
        return f"{number:04d}.wav,s{number % 7}\n"

    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(record, range(NUM_FILES)))
    (recordings / "metadata.csv").write_text("file_name,speaker\n" + "".join(rows))
    views = [
        f'  v{number}: {{family: transformers, source: "{checkpoints[name]}", compute_dtype: {compute_dtype}}}\n'
        for number, (name, compute_dtype) in enumerate(FROM_FILES)
    ]
    params = folder / "study" / "params.yaml"
    params.write_text(
        "corpora:\n  files: {adapter: folder, root: recordings}\nviews:\n"
        + "".join(views)
        + "tasks:\n  speaker: {kind: classification}\n"
    )
    if cli.main(["corpus", "--params", str(params)]):
        raise RuntimeError("strata corpus failed")
    said = io.StringIO()
    names = [f"v{number}" for number in range(len(FROM_FILES))]
    with redirect_stdout(said):
        failed = cli.main(["bench", "extract", *names, "--seconds", "1800", "--json", "--params", str(params)])
    if failed:
        raise RuntimeError("strata bench failed")
    return json.loads(said.getvalue())


def _write_files(found: Sequence[dict]) -> None:
    rows = [
        [
            name,
            compute_dtype,
            f"{each['hours_per_hour']:,.0f}",
            *(f"{each['audio_s'] / each[phase]:,.0f}" for phase in ("decode_s", "compute_s", "write_s")),
        ]
        for (name, compute_dtype), each in zip(FROM_FILES, found, strict=True)
    ]
    lines = [
        f"On {device_name(str(DEVICE))}. 16-bit WAV files of the same durations, on a RAM disk or whatever holds",
        "temporary files; seconds of audio per second, as `strata bench extract` measures them: through the whole",
        "pipeline at once, and decoding, computing and writing each by itself.",
    ]
    header = ["model", "format", "all overlapping", "decode", "compute", "write"]
    write_table("Extraction of files on a GPU", COMMAND, header, rows, "\n".join(lines))


if __name__ == "__main__":
    main()
