"""Made-up results of grids, as the stages write them: every cell of a section, scores that depend on its views."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from strata.trainers.search.grid import cells
from strata.trainers.spec import Experiment

BREAKING = "</script><img src=x onerror=\"document.title='broken'\">"
"""A label that ends a careless page's script, and runs one of its own."""
TASKS = {"speaker": "classification", "emotion": "classification", "gender": "binary", "age": "regression"}
CLASSES = {
    "speaker": [f"speaker {i}" for i in range(24)],
    "emotion": ["angry", "happy", "neutral", "sad", BREAKING],
    "gender": ["female", "male"],
}
FOLDS, EPOCHS = 5, 30


VIEWS = ["mfcc", "x-vector", "wavlm", "whisper-base-encoder-of-a-long-name"]
FUSIONS = ["concat", "ot", {"kind": "ot", "direction": "x1->x2"}, {"kind": "ot", "direction": "x2->x1"}]


def sections(views: Sequence[str] = VIEWS) -> dict[str, dict]:
    """The studies of TANGO as three sections of `experiments`: each view alone in two setups, and all pairs."""
    common = {"views": list(views), "tasks": list(TASKS), "folds": {"k": FOLDS}}
    alone = {"corpora": "each", "views": "each"}
    return {
        "svst": {**common, "joint": False, "grid": alone},
        "svmt": {**common, "grid": alone},
        "pairs": {**common, "grid": {"corpora": "each", "views": "pairs", "fusion": FUSIONS}},
    }


def write(folder: Path, name: str, section: Mapping, corpora: Sequence[str], num_utterances: int = 101) -> list[str]:
    """Results of every cell that the section stands for; their folders below `results/`."""
    found = []
    for cell, experiment in cells(Experiment.model_validate(section), corpora).items():
        where = folder / "results" / name / cell
        where.mkdir(parents=True)
        seed = sum(map(ord, cell))
        _write_cell(where, experiment, experiment.corpora or corpora, np.random.default_rng(seed), num_utterances)
        found.append(f"{name}/{cell}")
    return found


def quality(experiment: Experiment) -> float:
    """How good a cell is, from 0 to 1: better views are better, a transport a little better than concatenation."""
    views = [0.35 + 0.05 * (sum(map(ord, view)) % 11) for view in experiment.views]
    return min(0.97, max(views) + (0.04 if experiment.setup == "TANGO" else 0.0))


def _write_cell(
    where: Path, experiment: Experiment, corpora: Sequence[str], rng: np.random.Generator, count: int
) -> None:
    good = quality(experiment)
    fold = np.arange(count) % FOLDS
    columns = {"utterance": [f"{corpora[0]}/{i}" for i in range(count)], "fold": fold, "seed": 0}
    tasks = {}
    for task in experiment.tasks:
        kind = TASKS[task]
        if kind == "regression":
            true = rng.normal(45, 15, count)
            predicted = true + rng.normal(0, 16 * (1.05 - good), count)
            errors = [float(np.sqrt(np.mean((true - predicted)[fold == k] ** 2))) for k in range(FOLDS)]
            tasks[task] = {"rmse": _summary(errors), "mae": _summary([0.8 * e for e in errors])}
        else:
            true = rng.choice(CLASSES[task], count)
            predicted = np.where(rng.random(count) < good, true, rng.choice(CLASSES[task], count))
            right = [float(np.mean((true == predicted)[fold == k])) for k in range(FOLDS)]
            tasks[task] = {"accuracy": _summary(right), "uar": _summary([0.98 * r for r in right])}
        columns |= {f"{task}.true": true, f"{task}.predicted": predicted}
    chance = {t: {"rmse": 15.0} if TASKS[t] == "regression" else {"accuracy": 1 / len(CLASSES[t])} for t in tasks}
    metrics = {
        "setup": experiment.setup,
        "views": experiment.views,
        "corpora": list(corpora),
        "folds": {"hash": "f01d", "sizes": [{"train": 72, "valid": 8, "test": 20}] * FOLDS},
        "tasks": tasks,
        "kinds": {task: TASKS[task] for task in tasks},
        "primary": {task: "rmse" if TASKS[task] == "regression" else "accuracy" for task in tasks},
        "chance": chance,
        "classes": {task: CLASSES[task] for task in tasks if task in CLASSES},
        "config": experiment.model_dump(mode="json"),
        "num_utterances": count,
        "num_folds": FOLDS,
        "seeds": experiment.seeds,
        "seconds": {"total": 3.5},
        "provenance": {"manifest": "0123abcd", "views": {v: {"fingerprint": {}} for v in experiment.views}},
    }
    pd.DataFrame(columns).to_parquet(where / "predictions.parquet")
    groups = [" + ".join(tasks)] if experiment.joint else list(tasks)
    epochs = np.arange(1, EPOCHS + 1)
    pd.concat(
        pd.DataFrame(
            {
                "seed": 0,
                "fold": k,
                "task_group": group,
                "epoch": epochs,
                "train_loss": np.exp(-epochs / 9) + 0.05 * rng.random(EPOCHS),
                "valid_loss": np.exp(-epochs / 7) + 0.3 + 0.006 * epochs + 0.05 * rng.random(EPOCHS),
            }
        )
        for group in groups
        for k in range(FOLDS)
    ).to_parquet(where / "curves.parquet")
    (where / "metrics.json").write_text(json.dumps(metrics))


def _summary(folds: list[float]) -> dict:
    return {"mean": float(np.mean(folds)), "sd": float(np.std(folds, ddof=1)), "folds": folds}
