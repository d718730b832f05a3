import copy
import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from strata.pipeline import cli
from strata.pipeline.study import yaml12
from tests import served

SAMPLING_RATE = 16_000


def tone(path: Path, pitch_hz: float, seconds: float = 0.4) -> Path:
    """A noisy tone: enough of a recording for every view."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    noise = np.random.default_rng(int(pitch_hz)).normal(size=time.size)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch_hz * time) + 0.02 * noise, SAMPLING_RATE)
    return path


@pytest.fixture
def plant():
    """A function that writes a tiny recording, each of another pitch, at every path given below a root."""

    def write(root: Path, *paths: str) -> Path:
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            time = np.arange(800) / SAMPLING_RATE
            wave = 0.3 * np.sin(2 * np.pi * (100 + zlib.crc32(Path(path).name.encode()) % 3001) * time)
            with (root / path).open("wb") as file:
                soundfile.write(file, wave, SAMPLING_RATE, format="wav")
        return root

    return write


class StudyFolder:
    """A study with a `metadata.csv` corpus of tones, and the command line to run on it."""

    served = True
    """Whether processes are forks of one that has imported everything, and not started from nothing."""

    def __init__(self, folder: Path, capsys):
        self.folder, self.capsys = folder, capsys
        self.recordings = folder / "recordings"
        self.rows = []
        self.params = {
            "corpora": {"tones": {"adapter": "folder", "root": "recordings"}},
            "transcribe": {},
            "views": {"mfcc": {"family": "mfcc"}, "wavlm": {"family": "transformers", "source": "miniature:wavlm"}},
            "tasks": {"speaker": {"kind": "classification"}, "pitch": {"kind": "regression"}},
            "experiments": {
                "one": {"views": ["mfcc"], "tasks": ["speaker", "pitch"], "folds": {"k": 2}, "epochs": 2},
                "two": {
                    "views": ["mfcc", "wavlm"],
                    "fusion": "ot",
                    "tasks": ["speaker"],
                    "folds": {"k": 2},
                    "epochs": 2,
                },
            },
            "eliminate": {"wavlm": {"view": "wavlm", "tasks": ["speaker"], "folds": {"k": 2}, "epochs": 2}},
            "tune": {},
            "embed": {},
            "downstream": {},
        }

    def copied(self, root: Path, capsys) -> "StudyFolder":
        """The same study in a folder `root`, with all that lies beside it; the two share nothing."""
        beside = self.folder.parent
        shutil.copytree(beside, root, symlinks=True, dirs_exist_ok=True)
        other = StudyFolder(root / self.folder.name, capsys)
        other.recordings = root / self.recordings.relative_to(beside)
        other.rows, other.params = list(self.rows), copy.deepcopy(self.params)
        return other

    def add(self, count: int) -> "StudyFolder":
        """More recordings, each of another pitch."""
        for _ in range(count):
            number = len(self.rows)
            name = f"{number:03d}.wav"
            tone(self.recordings / name, 100 + 7 * number, 0.3 + 0.01 * (number % 7))
            self.rows.append(f"{name},{'ab'[number % 2]},{100 + 7 * number}")
        (self.recordings / "metadata.csv").write_text("\n".join(["file_name,speaker,pitch", *self.rows]) + "\n")
        return self

    def write_params(self) -> "StudyFolder":
        """params.yaml as the attribute has it now."""
        (self.folder / "params.yaml").write_text(yaml12.dump(self.params))
        return self

    def strata(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of one command, in this process."""
        self.capsys.readouterr()
        status = cli.main(
            [*arguments, *([] if "--params" in arguments else ["--params", str(self.folder / "params.yaml")])]
        )
        return status, *self.capsys.readouterr()

    def succeeds(self, *arguments: str) -> str:
        """Both streams of a command that must succeed."""
        status, out, err = self.strata(*arguments)
        assert status == 0, err
        return out + err

    def fails(self, *arguments: str) -> str:
        """The one line of a command that must fail."""
        status, _, err = self.strata(*arguments)
        assert status == 1
        line = err.splitlines()[-1]
        assert line.startswith("strata: ")
        assert "Traceback" not in err
        return line

    @property
    def environment(self) -> dict[str, str]:
        """Of a user's shell, with `strata` and `dvc` on the path, started by `tests.served` if `served`."""
        commands = [str(served.folder())] * self.served + [str(Path(sys.executable).parent)]
        return os.environ | {
            "PATH": os.pathsep.join([*commands, os.environ["PATH"]]),
            "OMP_NUM_THREADS": "1",
        }

    def process(self, *command: str, check: bool = True) -> str:
        """Both streams of a command run in the folder, as a user would."""
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def metrics(self, experiment: str) -> dict:
        """An experiment's results."""
        return json.loads((self.folder / "results" / experiment / "metrics.json").read_text())


@pytest.fixture
def forked():
    """Processes, Dask's workers among them, that are forks of one that has imported everything, once for all tests.

    Where a study has its miniatures is told to Dask's, which would have it from the test that came first.
    """
    import dask
    from distributed.utils import get_mp_context

    quick = {
        "distributed.worker.multiprocessing-method": "forkserver",
        "distributed.nanny.environ": {"STRATA_CACHE": ""},
    }
    with dask.config.set(quick):
        context = get_mp_context()
        context.set_forkserver_preload(served.MODELS)
        yield context


@pytest.fixture(scope="session")
def new_study():
    """Makes a study that several tests share; each lends it its `capsys`."""
    return StudyFolder


@pytest.fixture(scope="session")
def silence():
    """For the studies of fixtures that several tests share."""
    return Silence()


@pytest.fixture
def study(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "miniatures"))
    return StudyFolder(tmp_path / "study", capsys).add(24).write_params()


class Silence:
    """In the place of `capsys` for what a fixture of several tests runs."""

    def readouterr(self):
        """Nothing: what was said is in the report of the first test."""
        return "", ""


@pytest.fixture(scope="session")
def initialised(tmp_path_factory):
    """A study made by `strata init`, with the tones as its corpus; the recordings lie outside of it. To be copied."""
    study = StudyFolder(tmp_path_factory.mktemp("initialised") / "study", Silence()).add(24)
    study.recordings = study.recordings.rename(study.folder.parent / "recordings")
    study.succeeds("init", str(study.folder), "--params", "unused")
    study.params["corpora"]["tones"]["root"] = "../recordings"
    return study.write_params()


@pytest.fixture
def repository(initialised, tmp_path, capsys, monkeypatch):
    """That study, to do with as one likes."""
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "miniatures"))
    return initialised.copied(tmp_path, capsys)


@pytest.fixture(scope="session")
def extracted(initialised, tmp_path_factory):
    """A study of two quick views, extracted and committed, and all of it pushed to a directory. To be copied."""
    study = initialised.copied(tmp_path_factory.mktemp("extracted"), Silence())
    study.params["views"] = {"mfcc": {"family": "mfcc"}, "few": {"family": "mfcc", "num_coefficients": 5}}
    study.params["experiments"].pop("two")
    study.params["eliminate"] = {}
    study.write_params()
    study.process("dvc", "remote", "add", "--default", "shelf", "../shelf")
    study.process("dvc", "repro", "extract")
    study.process("dvc", "push")
    study.process("git", "add", "--all")
    study.process("git", "commit", "--quiet", "--message", "features")
    return study


@pytest.fixture
def shelved(extracted, tmp_path, capsys):
    """That study, to do with as one likes."""
    return extracted.copied(tmp_path, capsys)
