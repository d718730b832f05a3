"""A small experiment beside scikit-learn, as whole commands: what starting and keeping house cost (DESIGN §11).

Five folds of the same network on the same number of vectors, the same epochs and batches of Adam, validation after each
epoch on a tenth of the training part. CPU time of a command is that of its process and of all that it starts.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from benchmarks import write_table
from strata.pipeline.study import yaml12
from strata.store import FeatureStore

UTTERANCES, DIM, CLASSES, FOLDS, EPOCHS, BATCH, HIDDEN = 300, 1024, 4, 5, 30, 32, [200, 64, 56]
PAIRS = 5
PARAMS = {
    "corpora": {"noise": {"adapter": "folder", "root": "recordings"}},
    "views": {"vectors": {"family": "mfcc"}},  # by name alone: its store is filled here
    "tasks": {"group": {"kind": "classification"}},
    "experiments": {
        "small": {
            "views": ["vectors"],
            "encoder": "mlp",
            "hidden": HIDDEN,
            "tasks": ["group"],
            "folds": {"k": FOLDS, "validation": 0.1},
            "epochs": EPOCHS,
            "patience": EPOCHS,
            "batch_size": BATCH,
            "final": False,
        }
    },
}
PLAIN = f"""
import sys, time, warnings
import numpy as np
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

warnings.simplefilter("ignore")
x, y = np.load("x.npy"), np.load("y.npy")
started, scores = time.perf_counter(), []
for train, test in StratifiedKFold({FOLDS}, shuffle=True, random_state=0).split(x, y):
    network = MLPClassifier({HIDDEN}, alpha=0, batch_size={BATCH}, max_iter={EPOCHS}, early_stopping=True,
                            validation_fraction=0.1, n_iter_no_change={EPOCHS}, random_state=0)
    scores.append(make_pipeline(StandardScaler(), network).fit(x[train], y[train]).score(x[test], y[test]))
print(time.perf_counter() - started, np.mean(scores))
"""


def main() -> None:
    """Measures in a temporary folder and writes the table."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder)
        _make(study)
        found = [_pair(study) for _ in range(PAIRS)]
    ours, plain, training, plain_training, again = map(statistics.median, zip(*found, strict=True))
    ratio = statistics.median(pair[0] / pair[1] for pair in found)
    trained = statistics.median(pair[2] / pair[3] for pair in found)
    write_table(
        "A small experiment",
        "python -m benchmarks.small",
        ["CPU time of", "scikit-learn", "ours", "ratio", "reach"],
        [
            ("the whole command", f"{plain:.2f} s", f"{ours:.2f} s", f"**{ratio:.1f}×**", "≤ 2.5×"),
            ("the training in it, by the clock", f"{plain_training:.2f} s", f"{training:.2f} s", f"{trained:.1f}×", ""),
            ("the command when first up to date", "", f"{again:.2f} s", "", "≤ 0.5 s"),
        ],
        f"{FOLDS} folds of a network {DIM} → {' → '.join(map(str, HIDDEN))} → {CLASSES} on {UTTERANCES} vectors, "
        f"{EPOCHS} epochs, batches of {BATCH}, Adam, validation after each epoch; user and system time of a "
        f"command and of all that it starts, medians of {PAIRS} pairs.",
    )


def _make(study: Path) -> None:
    """A study of short noises whose stored vectors tell their group, and the same vectors for the plain program."""
    rng = np.random.default_rng(0)
    groups = np.arange(UTTERANCES) % CLASSES
    values = (rng.normal(size=(UTTERANCES, DIM)) + rng.normal(size=(CLASSES, DIM))[groups] / 8).astype(np.float32)
    recordings = study / "recordings"
    recordings.mkdir()
    for i in range(UTTERANCES):
        soundfile.write(recordings / f"{i:03d}.wav", 0.1 * rng.normal(size=1600), 16_000)
    lines = ["file_name,group", *(f"{i:03d}.wav,{'abcd'[group]}" for i, group in enumerate(groups))]
    (recordings / "metadata.csv").write_text("\n".join(lines) + "\n")
    (study / "params.yaml").write_text(yaml12.dump(PARAMS))
    _cpu_s(study, "-m", "strata.pipeline.cli", "corpus")
    contents = pd.read_parquet(study / "data" / "manifest.parquet")["content"].tolist()
    store = FeatureStore.create(study / "features" / "vectors.zarr", fingerprint={}, layer_names=["0"], dim=DIM)
    store.append(contents, values[:, None], np.ones(UTTERANCES, int))
    np.save(study / "x.npy", values)
    np.save(study / "y.npy", groups)


def _pair(study: Path) -> tuple[float, ...]:
    """CPU seconds: of our command and of the plain one, of the training in each, and of our command once more."""
    shutil.rmtree(study / "results", ignore_errors=True)
    ours, _ = _cpu_s(study, "-m", "strata.pipeline.cli", "train")
    training = json.loads((study / "results" / "small" / "metrics.json").read_text())["seconds"]["total"]
    plain, said = _cpu_s(study, "-c", PLAIN)
    again, _ = _cpu_s(study, "-m", "strata.pipeline.cli", "train")
    return ours, plain, float(training), float(said.split()[0]), again


def _cpu_s(study: Path, *arguments: str) -> tuple[float, str]:
    """User and system seconds of a Python program and of its children, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = [sys.executable, *arguments]
    done = subprocess.run(run, cwd=study, env=dict(os.environ), stdout=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


if __name__ == "__main__":
    main()
