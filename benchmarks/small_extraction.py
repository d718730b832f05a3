"""What `strata extract` costs beside the model: CPU time on a few files, against a loop that reads, computes and saves.

Both compute the same values from the same files in one process, one after the other; what each needs before its first
file (imports, weights, the checkpoint's hash) is told apart. `benchmarks.extraction` holds the computing itself against
the loop.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch

from benchmarks import write_table
from benchmarks.models import Loop, make_checkpoint, sounds
from strata.extractors.contract import SAMPLING_RATE
from strata.pipeline import cli
from strata.pipeline.stages import extract
from strata.pipeline.study import yaml12
from strata.pipeline.study.folder import Study
from strata.store import FeatureStore

FILES, SECONDS, PAIRS, STARTS = 40, (0.5, 3.0), 5, 3
MODEL, REACH = "wav2vec2-base", "≤ 1.02×"
START = """
import time, sys
from pathlib import Path
{imports}
print(time.process_time())
"""
LOOP = """import torch
from benchmarks.models import Loop
Loop(Path(sys.argv[1]), torch.device("cpu"))"""
STRATA = """from strata.pipeline.extraction import work
from strata.pipeline.stages import extract
from strata.pipeline.study.folder import Study
extraction = work.Extraction.of(Study(Path("params.yaml")), "base")
work.look(extraction)
work.extractor(extraction).batch_s"""


def main() -> None:
    """Measures in a temporary folder and writes the table."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        checkpoint = make_checkpoint(MODEL, Path(folder))
        _make(study, checkpoint)
        loop = Loop(checkpoint, torch.device("cpu"))
        times: dict[str, list[float]] = {"loop": [], "ours": []}
        for _ in range(PAIRS + 1):  # the first pair warms both up
            times["loop"].append(_cpu(lambda: _loop(study, loop)))
            shutil.rmtree(study / "features", ignore_errors=True)
            times["ours"].append(_cpu(lambda: extract.run(Study(study / "params.yaml"), ["base"])))
            _check(study)
        starts = {"loop": _start(study, LOOP, checkpoint), "ours": _start(study, STRATA, checkpoint)}
    _write({name: found[1:] for name, found in times.items()}, starts)


def _make(study: Path, checkpoint: Path) -> None:
    recordings = study / "recordings"
    recordings.mkdir(parents=True)
    seconds = np.random.default_rng(0).uniform(*SECONDS, FILES)
    for i, waveform in enumerate(sounds(seconds)):
        soundfile.write(recordings / f"{i}.wav", waveform, SAMPLING_RATE)
    (recordings / "metadata.csv").write_text("\n".join(["file_name", *(f"{i}.wav" for i in range(FILES))]))
    view = {"family": "transformers", "source": str(checkpoint)}
    params = {"corpora": {"noise": {"adapter": "folder", "root": "recordings"}}, "views": {"base": view}}
    (study / "params.yaml").write_text(yaml12.dump(params))
    cli.main(["corpus", "--params", str(study / "params.yaml")])


def _loop(study: Path, loop: Loop) -> None:
    """What one writes first: file by file, and all of it saved at the end."""
    files = sorted((study / "recordings").glob("*.wav"))
    values = [loop.extract([soundfile.read(file, dtype="float32")[0]])[0] for file in files]
    np.savez(study / "loop.npz", **{file.name: value for file, value in zip(files, values, strict=True)})


def _check(study: Path) -> None:
    """Raises ValueError unless both have computed the same."""
    manifest = Study(study / "params.yaml").read_manifest()
    found = FeatureStore.open(study / "features/base.zarr").pooled(manifest["content"].tolist())
    expected = np.load(study / "loop.npz")
    for values, audio in zip(found, manifest["audio"], strict=True):
        right = expected[Path(audio).name]
        if np.abs(values - right).max() > 1e-4 * np.abs(right).max():
            raise ValueError(f"{audio}: expected the loop's values to within 1e-4")


def _cpu(action: Callable[[], object]) -> float:
    """Seconds of CPU time, of all threads."""
    before = time.process_time()
    action()
    return time.process_time() - before


def _start(study: Path, imports: str, checkpoint: Path) -> float:
    """Median seconds of CPU time of a process until it could compute its first file."""
    command = [sys.executable, "-c", START.format(imports=imports), str(checkpoint)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HF_HUB_OFFLINE": "1"}
    found = []
    for _ in range(STARTS):
        done = subprocess.run(command, cwd=study, env=environment, capture_output=True, text=True, check=True)
        found.append(float(done.stdout.splitlines()[-1]))
    return statistics.median(found)


def _write(times: dict[str, list[float]], starts: dict[str, float]) -> None:
    ratios = [ours / loop for ours, loop in zip(times["ours"], times["loop"], strict=True)]
    cells = [f"{statistics.median(times[name]):.2f} s" for name in ("loop", "ours")]
    row = [f"{MODEL}, {FILES} files of {SECONDS[0]:g} to {SECONDS[1]:g} s", *cells]
    row += [f"**{statistics.median(ratios):.3f}×** ({min(ratios):.3f} to {max(ratios):.3f})", REACH]
    row += [f"{starts[name]:.1f} s" for name in ("loop", "ours")]
    header = ["what", "loop", "`strata extract`", "ratio", "reach", "start: loop", "start: Strata"]
    note = [
        f"CPU time, all layers pooled, float32, random weights, {torch.get_num_threads()} thread(s), PyTorch",
        f"{torch.__version__}; medians of {PAIRS} pairs in one process, in which loop and extraction take turns.",
        "The loop: soundfile, AutoFeatureExtractor and AutoModel, file by file, and `np.savez` at the end. Ours: the",
        "whole stage into an empty store, the manifest read, every recording's hash looked at again, all synced.",
        f"Start: CPU time of a fresh process until its model could compute, median of {STARTS}; ours hashes it.",
    ]
    write_table("A small extraction", "python -m benchmarks.small_extraction", header, [row], "\n".join(note))


if __name__ == "__main__":
    main()
