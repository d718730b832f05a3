"""Whole studies on disk, made up: results as the stages write them, without the work."""

import json
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from strata.pipeline import report
from strata.store import FeatureStore
from strata.trainers import spec
from strata.trainers.search import grid
from tests.pipeline.report import grid_results, wavcse_results

HOSTILE = "<script>alert('$x_1$ & \"co\"')</script>"
"""A label that breaks out of a careless page, and that a careless figure takes for mathematics."""
POOLED = ("weighted", "learned-norm", "self-attention")
EMOTIONS = ["angry", "happy", "sad", HOSTILE]


@dataclass
class FakeStudy:
    """A study's folder and its parameters; `add_experiment` and `add_elimination` leave results in it."""

    folder: Path
    params: dict

    def add_experiment(
        self, name: str, setup: str, views: list[str], scores: Mapping[str, float], classes: Mapping[str, list] = {}
    ) -> None:
        """Results with the given mean per task: accuracy where `classes` has the task, else RMSE."""
        rng = np.random.default_rng(len(name))
        folder = self.folder / "results" / name
        folder.mkdir(parents=True)
        kinds = {task: "classification" if task in classes else "regression" for task in scores}
        tasks, columns = {}, {"utterance": [f"demo/{i}" for i in range(101)], "fold": [i % 5 for i in range(101)]}
        for task, mean in scores.items():
            if kinds[task] == "classification":
                others = {"uar": mean - 0.01, "f1": mean - 0.02}
                tasks[task] = {metric: _folds(m) for metric, m in {"accuracy": mean, **others}.items()}
                true = rng.choice(classes[task], 101)
                guess = np.where(rng.random(101) < mean, true, rng.choice(classes[task], 101))
            else:
                tasks[task] = {metric: _folds(m) for metric, m in {"rmse": mean, "mae": mean * 0.8, "r2": 0.5}.items()}
                true = rng.normal(45, 15, 101)
                guess = true + rng.normal(0, mean, 101)
            columns |= {f"{task}.true": true, f"{task}.predicted": guess, f"{task}.probabilities": [[0.5, 0.5]] * 101}
        chance = {task: {"accuracy": 0.25} if kinds[task] == "classification" else {"rmse": 15.0} for task in scores}
        metrics = {
            "experiment": name,
            "setup": setup,
            "views": views,
            "tasks": tasks,
            "kinds": kinds,
            "primary": {task: "accuracy" if kinds[task] == "classification" else "rmse" for task in scores},
            "chance": chance,
            "classes": dict(classes),
            "config": {"views": views, "encoder": "cnn", "folds": {"k": 5}},
            "num_utterances": 101,
            "num_folds": 5,
            "seconds": {"total": 83.0},
            "provenance": {
                "views": {v: {"fingerprint": {"source": "", "weights": f"hash of {v}"}, "rows": 101} for v in views},
                "manifest": "0123abcd",
                "versions": {"torch": "2.13.0"},
                "code": "0.1.0",
            },
        }
        (folder / "metrics.json").write_text(json.dumps(metrics))
        pd.DataFrame(columns).to_parquet(folder / "predictions.parquet")
        epochs = np.arange(1, 31)
        curves = [
            pd.DataFrame(
                {
                    "fold": fold,
                    "task_group": "+".join(scores),
                    "epoch": epochs,
                    "train_loss": np.exp(-epochs / 9) + 0.05 * rng.random(30),
                    "valid_loss": np.exp(-epochs / 7) + 0.3 + 0.006 * epochs + 0.05 * rng.random(30),
                }
            )
            for fold in range(5)
        ]
        pd.concat(curves).to_parquet(folder / "curves.parquet")
        self.params["experiments"].setdefault(name, {"views": views})

    def add_grids(self, num_utterances: int = 101, views: Sequence[str] = grid_results.VIEWS) -> None:
        """TANGO's three grids, all of their cells trained, on every corpus of the study."""
        for name, section in grid_results.sections(views).items():
            self.params["experiments"][name] = section
            grid_results.write(self.folder, name, section, list(self.params["corpora"]), num_utterances)
        self.params["views"] |= {view: {"family": "mfcc"} for view in views if view not in self.params["views"]}
        self.params["tasks"] |= {task: {"kind": kind} for task, kind in grid_results.TASKS.items()}

    def add_elimination(self, name: str, names: Sequence = range(13), chosen: int = 7) -> None:
        """An elimination that drops the layers from the last one and keeps the first `len(names) - chosen + 1`."""
        names = [str(i) for i in names] if isinstance(names, range) else list(names)
        rounds = []
        for number in range(1, len(names) + 1):
            kept = names[: len(names) - number + 1]
            valid = 0.9 - 0.01 * abs(number - chosen)
            rounds.append(
                {
                    "round": number,
                    "layers": kept,
                    "weights": {layer: (len(names) - place) / 91 for place, layer in enumerate(kept)},
                    "valid": {"mean": valid, "speaker": valid + 0.02, "emotion": valid - 0.02},
                    "test": {"mean": valid - 0.03, "speaker": valid - 0.01, "emotion": valid - 0.05},
                    "dropped": kept[-1] if len(kept) > 1 else None,
                }
            )
        found = {
            "name": name,
            "view": "wavlm",
            "tasks": ["speaker", "emotion"],
            "pooling": "weighted",
            "layer_names": names,
            "rounds": rounds,
            "support": rounds[chosen - 1]["layers"],
            "ranking": {},
            "best_round": chosen,
            "config": {"pooling": "weighted"},
            "seconds": 412.0,
            "num_train": 61,
            "num_valid": 19,
            "num_test": 21,
            "provenance": {"manifest": "0123abcd"},
        }
        path = self.folder / "results" / "eliminate" / name / "elimination.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(found))
        self.params["eliminate"].setdefault(name, {"view": "wavlm"})

    def add_wavcse(self) -> None:
        """Everything that wavCSE asks for: a grid of poolings beside two plain models, an elimination crossed with
        poolings and what it saves, two searches, and an embedding with four downstream tasks, one of them skipped."""
        results = self.folder / "results"
        sections = {
            "wavcse": wavcse_results.unified(None),
            "probe": {"views": ["wavlm"], "encoder": "linear", "tasks": list(wavcse_results.TASKS)},
            "probe-mfcc": {"views": ["mfcc"], "encoder": "linear", "tasks": ["keyword"]},
        }
        self.params["experiments"] |= sections
        for name, cell in grid.cells(spec.Experiment.model_validate(sections["wavcse"]), ["demo"]).items():
            mean = wavcse_results.POOLINGS[cell.pooling]
            scores = {"keyword": mean + 0.05, "speaker": mean + 0.02, "emotion": mean - 0.1}
            where = results / "wavcse" / name
            wavcse_results.write_experiment(where, cell.model_dump(mode="json"), scores, 1.5 - mean)
        for name in ("probe", "probe-mfcc"):
            scores = dict.fromkeys(sections[name]["tasks"], 0.8)
            wavcse_results.write_experiment(results / name, sections[name], scores, 0.7)
        self.write("eliminate/crossed/elimination.json", wavcse_results.elimination("crossed", 25, 10, POOLED))
        self.write(
            "eliminate/crossed/savings.json",
            {
                "layers": 15,
                "pooled_bytes": {"whole": 102_400, "cut": 65_536},
                "parameters": {"whole": 315_000_000, "cut": 240_000_000},
                "bytes": {"whole": 1_260_000_000, "cut": 960_000_000},
                "operations": {"whole": 5e10, "cut": 4e10},
                "seconds": {"whole": None, "cut": None},
                "device": "cpu, 1 thread",
                "sample": "4 s of noise",
                "rounds": 7,
            },
        )
        self.params["eliminate"]["crossed"] = {"view": "wavlm"}
        surface = {"batch_size": [32, 64, 128], "learning_rate": [0.0001, 0.001, 0.01]}
        self.write("tune/widths/tune.json", wavcse_results.search())
        self.write("tune/rates/tune.json", wavcse_results.search(surface, 31))
        self.params["tune"] = {"widths": {"experiment": "wavcse"}, "rates": {"experiment": "wavcse"}}
        self.params["embed"] = {"unified": {"experiment": "wavcse/learned-norm"}, "other": {"experiment": "wavcse/max"}}
        self.params["downstream"] = {
            "words": {"views": ["unified"], "tasks": ["keyword"]},
            "words-other": {"views": ["other"], "tasks": ["keyword"]},
            "dialects": {"views": ["unified"], "tasks": ["dialect"], "corpora": ["timit"]},
            "voices": {"views": ["unified"], "verify": "speaker"},
        }
        for name, view, mean in (("words", "unified", 0.93), ("words-other", "other", 0.24)):
            section = {"views": [view], "encoder": "linear", "tasks": ["keyword"], "seeds": [0, 1, 2]}
            where = results / "downstream" / name
            wavcse_results.write_experiment(where, section, {"keyword": mean}, 0.4, views=[view], layers={})
        self.write("downstream/dialects/skipped.json", {"name": "dialects", "reason": "no corpus timit"})
        self.write("downstream/voices/metrics.json", wavcse_results.verification())

    def write(self, path: str, content: Mapping) -> Path:
        """A JSON file below results/."""
        file = self.folder / "results" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
        return file

    def add_corpus(self, num_utterances: int = 101) -> None:
        """A manifest of a synthetic corpus and a user's own, which labels no age."""
        rng = np.random.default_rng(7)
        demo = np.arange(num_utterances) % 3 != 0
        manifest = pd.DataFrame(
            {
                "utterance": [f"{'demo' if d else 'mine'}/{i}.wav" for i, d in enumerate(demo)],
                "audio": [f"audio/{i}.wav" for i in range(num_utterances)],
                "start_s": 0.0,
                "duration_s": rng.uniform(1, 5, num_utterances),
                "sampling_rate": 16_000,
                "content": [f"key{i}" for i in range(num_utterances)],
                "speaker": [f"speaker {i % 11}" for i in range(num_utterances)],
                "split": None,
                "transcript": None,
                "emotion": rng.choice(EMOTIONS, num_utterances),
                "age": np.where(demo, rng.normal(45, 15, num_utterances), np.nan),
            }
        )
        (self.folder / "data").mkdir(exist_ok=True)
        manifest.to_parquet(self.folder / "data" / "manifest.parquet")

    def add_features(self, view: str, layer_names: Sequence[str] = ("0", "1")) -> None:
        """A store, two layers unless said, in which the speaker can be seen."""
        keys = pd.read_parquet(self.folder / "data" / "manifest.parquet")["content"].tolist()
        rng = np.random.default_rng(0)
        centres = 5 * rng.normal(size=(11, 1, 5))
        pooled = np.stack([centres[place % 11] + rng.normal(size=(len(layer_names), 5)) for place in range(len(keys))])
        path = self.folder / "features" / f"{view}.zarr"
        path.parent.mkdir(exist_ok=True)
        store = FeatureStore.create(
            path, fingerprint={"family": "fake", "source": view}, layer_names=layer_names, dim=5, block_rows=len(keys)
        )
        store.append(keys, pooled.astype(np.float32), [7] * len(keys))


def _folds(mean: float) -> dict:
    folds = [mean * f for f in (0.98, 0.99, 1.0, 1.01, 1.02)]
    return {"mean": mean, "sd": float(np.std(folds)), "folds": folds}


def make_empty(parent: Path) -> FakeStudy:
    """A study of real speech and real weights of which nothing was run."""
    params = {
        "corpora": {"mine": {"adapter": "folder", "root": "recordings"}},
        "views": {"wavlm": {"family": "transformers", "source": "microsoft/wavlm-base"}},
        "tasks": {"speaker": {"kind": "classification"}},
        "experiments": {},
        "eliminate": {},
        "extract": {"device": "auto"},
    }
    folder = parent / "my study"
    folder.mkdir()
    return FakeStudy(folder, params)


def make_full(parent: Path) -> FakeStudy:
    """A study in which everything that the page can show is there."""
    study = make_empty(parent)
    params = study.params
    params["corpora"] = {"demo": {"adapter": "demo"}, "mine": {"adapter": "folder"}}
    params["views"] = {
        "wavlm": {"family": "transformers", "source": "miniature:wavlm"},
        "xvector": {"family": "speechbrain", "source": "miniature:xvector"},
        "mfcc": {"family": "mfcc"},
    }
    params["tasks"] = {
        "speaker": {"kind": "classification"},
        "emotion": {"kind": "classification"},
        "age": {"kind": "regression"},
    }
    study.add_corpus()
    speakers = [f"speaker {i}" for i in range(11)]
    classes = {"speaker": speakers, "emotion": EMOTIONS}
    study.add_experiment(
        "tango", "TANGO", ["xvector", "wavlm"], {"speaker": 0.912, "emotion": 0.73, "age": 8.5}, classes
    )
    study.add_experiment("single-mfcc", "SVST", ["mfcc"], {"speaker": 0.61, "emotion": 0.21, "age": 15.5}, classes)
    study.add_experiment("single-wavlm", "SVST", ["wavlm"], {"speaker": 0.87, "emotion": 0.755, "age": 9.1}, classes)
    study.add_experiment("shared", "SVMT", ["wavlm"], {"speaker": 0.85, "emotion": 0.70, "age": 9.7}, classes)
    study.add_elimination("wavlm")
    for view in params["views"]:
        study.add_features(view)
    (study.folder / "data" / "corpus.failures.csv").write_text(
        f'utterance,audio,reason\ndemo/bad,audio/bad.wav,"unreadable {HOSTILE.replace(chr(34), chr(34) * 2)}"\n'
    )
    timings = {"view": "wavlm", "utterances": 101, "audio_s": 303.0, "seconds": 12.0, "rows": 101, "bytes": 4_200_000}
    path = study.folder / "results" / "extract" / "wavlm.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**timings, "failures": 1}))
    return study


@pytest.fixture
def empty(tmp_path) -> FakeStudy:
    """A study of which nothing was run."""
    return make_empty(tmp_path)


def copied(study: FakeStudy, parent: Path) -> FakeStudy:
    """A study of one's own, to be changed: its results without its report."""
    folder = parent / study.folder.name
    shutil.copytree(study.folder, folder, ignore=shutil.ignore_patterns("report"))
    return FakeStudy(folder, deepcopy(study.params))


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> FakeStudy:
    """A study with a result of every kind and its report, made once; nobody may change it."""
    study = make_full(tmp_path_factory.mktemp("page"))
    report.build(study.folder, study.params)
    return study


@pytest.fixture
def full(shared, tmp_path) -> FakeStudy:
    """A study with a result of every kind, whose features have been laid out before."""
    return copied(shared, tmp_path)


@pytest.fixture
def sketched(monkeypatch):
    """Figures are painted, but neither laid out nor rendered, which takes seconds a page: for tests of its words."""
    from matplotlib.figure import Figure

    def sketch(figure, out, **_):
        width, height = 72 * figure.get_size_inches()
        out.write(f'<svg viewBox="0 0 {width} {height}"><metadata></metadata></svg>')

    monkeypatch.setattr(Figure, "savefig", sketch)


@pytest.fixture(scope="session")
def shared_wavcse(tmp_path_factory) -> FakeStudy:
    """A study of wavCSE alone, made once; nobody may change it."""
    study = make_empty(tmp_path_factory.mktemp("wavcse"))
    study.params["corpora"] = {"demo": {"adapter": "demo"}}
    study.params["views"]["wavlm"]["source"] = "miniature:wavlm"
    study.add_wavcse()
    return study


@pytest.fixture
def wavcse(shared_wavcse, tmp_path) -> FakeStudy:
    """A study of wavCSE alone."""
    return copied(shared_wavcse, tmp_path)


@pytest.fixture(scope="session")
def shared_grids(tmp_path_factory) -> FakeStudy:
    """A study of grids alone, made once; nobody may change it."""
    study = make_empty(tmp_path_factory.mktemp("gridded"))
    study.add_grids()
    return study


@pytest.fixture
def gridded(shared_grids, tmp_path) -> FakeStudy:
    """A study of grids alone."""
    return copied(shared_grids, tmp_path)


@pytest.fixture(scope="session")
def gridded_page(tmp_path_factory) -> str:
    """The page of a study of grids, for tests that only look at it."""
    study = make_empty(tmp_path_factory.mktemp("grids"))
    study.params["views"] = {"wavlm": {"family": "transformers", "source": "miniature:wavlm"}}
    study.params["corpora"]["demo"] = {"adapter": "demo"}
    study.add_grids()
    return report.build(study.folder, study.params).read_text()


@pytest.fixture(scope="session")
def wavcse_page(shared_wavcse, tmp_path_factory) -> str:
    """The page of a study of wavCSE, for tests that only look at it."""
    study = copied(shared_wavcse, tmp_path_factory.mktemp("wavcse_page"))
    return report.build(study.folder, study.params).read_text()


@pytest.fixture(scope="session")
def page(shared) -> str:
    """The page of a full study, for tests that only look at it."""
    return (shared.folder / "report" / "index.html").read_text()
