"""Made-up results of wavCSE's stages, as they write them: poolings, eliminations, searches and downstream tasks."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from strata.trainers.spec import Experiment

TASKS = ("keyword", "speaker", "emotion")
POOLINGS = {
    "weighted": 0.900, "max": 0.897, "mean": 0.895, "mixed": 0.902, "gated": 0.904, "learned-norm": 0.921,
    "log-sum-exp": 0.908, "smooth-maximum": 0.903, "auto": 0.906, "self-attention": 0.894,
}  # fmt: skip
"""Mean accuracy of each."""
SEEDS, FOLDS = (0, 1, 2), 5
SEED_STEP, FOLD_STEP = 0.01, 0.002
"""By how much the scores of neighbouring seeds, and of neighbouring folds, differ."""
SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "step": None},
    "embedding": {"low": 100, "high": 2000, "log": False, "step": 100},
    "balancing": ["equal", "uncertainty", "a balancing of a long name"],
}


def unified(pooling: str | None, **fields) -> dict:
    """A section of `experiments` for wavCSE's model; a grid over all poolings where none is named."""
    found = {"views": ["wavlm"], "encoder": "unified", "layers": "all", "tasks": list(TASKS), "seeds": list(SEEDS)}
    chosen = {"grid": {"pooling": list(POOLINGS)}} if pooling is None else {"pooling": pooling}
    return {**found, "folds": {"k": FOLDS}, **chosen, **fields}


def seeded(mean: float, seeds: Sequence[int] = SEEDS) -> dict:
    """A metric's values, seed by seed and fold by fold: the means of the seeds lie `SEED_STEP` apart."""
    offsets = SEED_STEP * (np.arange(len(seeds)) - (len(seeds) - 1) / 2)
    values = mean + offsets[:, None] + FOLD_STEP * (np.arange(FOLDS) - (FOLDS - 1) / 2)
    return {"mean": mean, "sd": float(values.std(ddof=1)), "folds": values.ravel().tolist()}


def write_experiment(where: Path, section: Mapping, scores: Mapping[str, float], valid_loss: float, **about) -> None:
    """Accuracies of an experiment, and curves whose lowest validation loss is the given one."""
    where.mkdir(parents=True)
    config = Experiment.model_validate({key: value for key, value in section.items() if key != "grid"})
    metrics = {
        "setup": config.setup,
        "views": config.views,
        "corpora": ["demo"],
        "tasks": {task: {"accuracy": seeded(mean, config.seeds)} for task, mean in scores.items()},
        "kinds": dict.fromkeys(scores, "classification"),
        "primary": dict.fromkeys(scores, "accuracy"),
        "chance": {task: {"accuracy": 0.25} for task in scores},
        "folds": {"hash": "f01d"},
        "layers": {view: ["0", "1", "2", "5"] for view in config.views},
        "config": config.model_dump(mode="json"),
        "num_utterances": 101,
        "num_folds": FOLDS,
        "seeds": config.seeds,
        "seconds": {"total": 61.0},
        "provenance": {"manifest": "0123abcd", "views": {view: {"fingerprint": {}} for view in config.views}},
    }
    (where / "metrics.json").write_text(json.dumps(metrics | about))
    runs = [(seed, fold, epoch) for seed in config.seeds for fold in range(FOLDS) for epoch in (1, 2, 3)]
    curves = pd.DataFrame(runs, columns=["seed", "fold", "epoch"])
    curves = curves.assign(
        task_group=" + ".join(scores), train_loss=0.1, valid_loss=valid_loss + 0.01 * curves["epoch"]
    )
    curves.to_parquet(where / "curves.parquet")


def elimination(name: str, num_layers: int = 13, chosen: int = 7, poolings: Sequence[str] = ("weighted",)) -> dict:
    """An elimination of three seeds in five folds that drops the layers from the last one, and chooses that round."""
    names = [str(layer) for layer in range(num_layers)]
    rounds = []
    for number in range(1, num_layers + 1):
        kept = names[: num_layers - number + 1]
        mean = 0.9 - 0.01 * abs(number - chosen)
        valid = {"mean": mean, "keyword": mean + 0.05, "speaker": mean + 0.02, "emotion": mean - 0.07}
        rounds.append(
            {
                "round": number,
                "layers": kept,
                "weights": {layer: (num_layers - place) / 91 for place, layer in enumerate(kept)},
                "weights_sd": dict.fromkeys(kept, 0.004),
                "valid": valid,
                "valid_sd": dict.fromkeys(valid, 0.011),
                "test": {task: score - 0.03 for task, score in valid.items()},
                "test_sd": dict.fromkeys(valid, 0.023),
                "dropped": kept[-1] if len(kept) > 1 else None,
            }
        )
    folds = [0.81, 0.83, 0.85, 0.83, 0.83]
    nested = {"mean": 0.83, "sd": 0.0141, "folds": folds}
    paths = []
    for place, pooling in enumerate(poolings):
        valid = [r["valid"]["mean"] - 0.02 * place for r in rounds]
        brief = {"pooling": pooling, "dropped": [r["dropped"] for r in rounds], "best_round": chosen}
        paths.append({**brief, "fold": None, "valid": valid, "test": [None] * num_layers})
        for fold in range(FOLDS):
            test = [score - 0.03 + 0.01 * (fold - 2) for score in valid]
            paths.append({**brief, "fold": fold, "valid": valid, "test": test})
    return {
        "name": name,
        "view": "wavlm",
        "tasks": list(TASKS),
        "pooling": poolings[0],
        "layer_names": names,
        "rounds": rounds,
        "support": rounds[chosen - 1]["layers"],
        "ranking": {layer: max(1, place - num_layers + chosen + 1) for place, layer in enumerate(names)},
        "best_round": chosen,
        "nested": {
            "test": nested,
            "tasks": dict.fromkeys(TASKS, nested),
            "kept": [5, 7, 9, 7, 6],
            "poolings": [poolings[0]] * 4 + [poolings[-1]],
        },
        "paths": paths,
        "config": {"pooling": list(poolings), "seeds": list(SEEDS), "folds": {"k": FOLDS}},
        "seconds": 412.0,
        "num_train": 61,
        "num_valid": 19,
        "num_test": 21,
        "provenance": {"manifest": "0123abcd"},
    }


def search(space: Mapping = SPACE, num_trials: int = 23) -> dict:
    """A search for the highest score; every seventh trial is pruned and the fifth fails, both without a value."""
    rng = np.random.default_rng(3)
    trials = []
    for number in range(num_trials):
        params = {field: _drawn(values, rng) for field, values in space.items()}
        state = "failed" if number == 5 else "pruned" if number % 7 == 6 else "complete"
        value = 0.5 + 0.3 * float(rng.random()) if state == "complete" else None
        reason = {"failed": "the loss was not finite", "pruned": "worse than most at epoch 7"}.get(state)
        told = {"number": number, "state": state, "params": params, "value": value, "reason": reason}
        tasks = dict.fromkeys(TASKS, value) if state == "complete" else {}
        trials.append({**told, "tasks": tasks, "epochs": 7 + number, "seconds": 3.5 + number})
    best = max((t for t in trials if t["state"] == "complete"), key=lambda trial: trial["value"])
    return {
        "name": "widths",
        "experiment": "wavcse",
        "search": "bayesian",
        "space": dict(space),
        "objective": "mean validation score over the tasks, higher is better",
        "trials": trials,
        "best": {"number": best["number"], "params": best["params"], "value": best["value"]},
        "start": {"params": {}, "value": 0.77},
        "test": {"tasks": dict(zip(TASKS, (0.91, 0.88, 0.71), strict=True)), "mean": 0.8333},
        "importance": {field: (3 - place) / 6 for place, field in enumerate(space)},
        "seconds": 97.0,
        "provenance": {"manifest": "0123abcd", "views": {"wavlm": {"fingerprint": {"source": ""}, "rows": 101}}},
    }


def verification() -> dict:
    """What a verification leaves, of five folds one of which had no pair of one speaker."""
    folds = [0.12, 0.16, None, 0.13, 0.15]
    return {
        "setup": "PLDA",
        "views": ["unified"],
        "corpora": ["demo"],
        "tasks": {
            "speaker": {
                "eer": {"mean": 0.14, "sd": 0.0183, "folds": folds},
                "min_dcf": {"mean": 0.9, "sd": 0.01, "folds": folds},
            }
        },
        "kinds": {"speaker": "verification"},
        "primary": {"speaker": "eer"},
        "chance": {"speaker": {"eer": 0.5}},
        "config": {"views": ["unified"], "verify": "speaker"},
        "num_utterances": 97,
        "num_folds": FOLDS,
        "num_trials": 1234,
        "seeds": [],
        "seconds": {"total": 1.5},
        "provenance": {"manifest": "0123abcd"},
    }


def _drawn(values, rng: np.random.Generator):
    if isinstance(values, list):
        return values[rng.integers(len(values))]
    low, high = values["low"], values["high"]
    return float(low * (high / low) ** rng.random()) if values["log"] else int(rng.integers(low, high))
