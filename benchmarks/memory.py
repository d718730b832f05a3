"""Peak memory of `strata extract` on corpora of growing size: it must not grow with them (DESIGN §5, §6)."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from benchmarks import write_table
from strata.pipeline.study import yaml12

SECONDS, SAMPLING_RATE = 3.0, 16_000
SIZES = (2500, 5000, 10000)
VIEWS = {
    "mfcc": {"family": "mfcc", "frames": ["mfcc"]},
    "wavlm": {"family": "transformers", "source": "miniature:wavlm", "frames": [4]},
}
PROGRAM = """
import sys
from benchmarks import peak_mb
from strata.pipeline import cli
status = cli.main(["extract", sys.argv[1]])
print(round(peak_mb()))
sys.exit(status)
"""


def main() -> None:
    """Measures in a temporary folder and writes the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            study = Path(folder) / str(size)
            _make(study, size)
            _strata(study, "-m", "strata.pipeline.cli", "corpus")
            for view in VIEWS:
                peak = int(_strata(study, "-c", PROGRAM, view).splitlines()[-1])
                stored = sum(file.stat().st_size for file in (study / f"features/{view}.zarr").rglob("*"))
                rows.append((view, size, f"{size * SECONDS / 3600:.1f} h", f"{stored / 1e6:.0f} MB", f"{peak} MB"))
    write_table(
        "Memory of an extraction",
        "python -m benchmarks.memory",
        ["view", "utterances", "audio", "store", "peak memory of the process"],
        sorted(rows, key=lambda row: (row[0], row[1])),
        f"Noise of {SECONDS:g} s each; frames of one layer kept; miniature weights.",
    )


def _make(study: Path, size: int) -> None:
    recordings = study / "recordings"
    recordings.mkdir(parents=True)
    for i in range(size):
        noise = np.random.default_rng(i).normal(scale=0.1, size=int(SECONDS * SAMPLING_RATE))
        soundfile.write(recordings / f"{i}.wav", noise, SAMPLING_RATE)
    (recordings / "metadata.csv").write_text("\n".join(["file_name", *(f"{i}.wav" for i in range(size))]))
    params = {"corpora": {"noise": {"adapter": "folder", "root": "recordings"}}, "views": VIEWS}
    (study / "params.yaml").write_text(yaml12.dump(params))


def _strata(study: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=study, capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    main()
