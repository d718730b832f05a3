"""Small trainings, divisions and searches whose outcomes are written down: see `test_golden.py`.

    python -m tests.trainers.golden                      writes down those that are new
    python -m tests.trainers.golden NAME…                writes these down anew, `all` for all
    python -m tests.trainers.golden --library NAME…      also where another version of a library made the values other

Values that have changed are written down when the number of a part that computes them has been raised. What is written
holds on other processors, with other numbers of threads and kernels: an outcome that follows a change of the features
in their seventh digit is refused, since a tie or a prediction on a boundary made it.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from strata.trainers import revisions
from strata.trainers.evaluation.experiment import run
from strata.trainers.evaluation.predictor import Predictor
from strata.trainers.evaluation.verification import verify
from strata.trainers.folds import cross_validation
from strata.trainers.inputs.data import Dataset, Segments
from strata.trainers.search.rounds import eliminate
from strata.trainers.search.space import Space
from strata.trainers.search.tuning import search
from strata.trainers.spec import Elimination, Experiment, Folds, Task, Tune, Verification

FILE = Path(__file__).with_name("golden.json")
RAISE = "raise the number of the part that has changed in trainers/revisions.py, so that results are made anew"
TOLERANCE = 1e-4
"""Of a number that is written down, absolute or relative, whichever allows more."""
SHAKEN = 1e-6
"""By which share of themselves the features are changed to see whether an outcome stands firm."""
NUM = 66
TASKS = {
    "emotion": Task(kind="classification", weight=0.7),
    "sex": Task(kind="binary"),
    "age": Task(kind="regression", weight=0.4),
    "effort": Task(kind="regression", corpora=["acted"]),
}


@dataclass(frozen=True)
class Case:
    """Something that is asked of the trainers, and the numbers that come of it."""

    section: Experiment | Elimination | Space | Verification | Folds
    tasks: Mapping[str, Task]
    outcome: Callable[[float], dict[str, object]]
    """What comes of it on features that are changed by such a share of themselves."""


def uniform(*shape: int, seed: int) -> np.ndarray:
    """Numbers between 0 and 1 that no library's generator has a say in (splitmix64)."""
    x = np.arange(1, np.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x += np.uint64(seed * 0x632BE59BD9B4E019 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64).reshape(shape) / 2**53


def normal(*shape: int, seed: int) -> np.ndarray:
    """Numbers that are nearly normal."""
    return (uniform(12, *shape, seed=seed).sum(0) - 6).round(6)


@cache
def dataset(shaken: float = 0.0) -> Dataset:
    """Two views of 66 utterances: six speakers in two corpora, labels with gaps, recordings that occur twice.

    One value lies far out, one dimension never varies, another hardly more than rounding makes, and what tells emotions
    and ages differs from layer to layer.
    """
    speaker = np.arange(NUM) * 5 % 6
    emotion = (uniform(NUM, seed=1) * 3).astype(int)
    age = 20 + 9 * speaker + 5 * uniform(NUM, seed=2)
    told = np.column_stack([np.eye(3)[emotion], np.eye(6)[speaker], (age - 45) / 15])
    features = {}
    for view, (num_layers, dim), seed in (("a", (3, 13), 3), ("b", (4, 11), 4)):
        how = normal(num_layers, told.shape[1], dim, seed=seed)
        values = np.einsum("nk,lkd->nld", told, how) + 1.5 * normal(NUM, num_layers, dim, seed=seed + 10)
        values *= 1 + np.arange(num_layers)[:, None] / 2
        values[17, :, 2] = 900.0
        values *= 1 + shaken * normal(*values.shape, seed=seed + 20)
        values[:, :, 5] = 7.5
        values[:, :, 6] = 3 + 2.0**-20 * (np.arange(NUM) % 3)[:, None]
        features[view] = values.astype(np.float32)
    contents = [f"recording {i}" for i in range(NUM)]
    contents[40], contents[51] = contents[3], contents[20]
    labels = {
        "speaker": [f"speaker {s}" for s in speaker],
        "emotion": [None if i % 11 == 4 else ["anger", "joy", "fear"][e] for i, e in enumerate(emotion)],
        "sex": [None if i % 13 == 6 else "female" if s % 2 else "male" for i, s in enumerate(speaker)],
        "age": [np.nan if i % 7 == 5 else a for i, a in enumerate(age)],
        "effort": [a / 10 + e for a, e in zip(age, emotion, strict=True)],
        "split": [("train", "train", "valid", "test")[i // 2 % 4] for i in range(NUM)],
    }
    labels["split"][40], labels["split"][51] = labels["split"][3], labels["split"][20]
    return Dataset(
        utterances=[f"corpus/{(i * 37) % NUM:03d}" for i in range(NUM)],
        contents=contents,
        labels=pd.DataFrame(labels),
        features=features,
        corpora=["acted" if i % 3 else "spontaneous" for i in range(NUM)],
    )


def summed(values: np.ndarray) -> float:
    """One number for many, in which each has a weight of its own."""
    values = np.asarray(values, np.float64).ravel()
    return float(values @ normal(len(values), seed=5)) / len(values) ** 0.5


def an_experiment(**changes) -> Case:
    """Cross-validated, in two folds of three epochs."""
    section = {"views": ["a"], "tasks": ["emotion"], "encoder": "linear", "epochs": 3, "learning_rate": 0.02}
    section |= {"batch_size": 16, "hidden": [7, 5], "head": 3, "channels": [2, 3], "shared": 7, "embedding": 17}
    section |= {"folds": {"k": 2, "validation": 0.3}, "final": False}
    how = Experiment.model_validate(section | changes)
    tasks = {name: TASKS[name] for name in how.tasks}
    return Case(how, tasks, lambda shaken: _of_experiment(how, tasks, dataset(shaken)))


def a_loss(task: str, loss: str) -> Case:
    """An experiment of one task, by that loss."""
    how = an_experiment(tasks=[task], encoder="linear").section
    tasks = {task: TASKS[task].model_copy(update={"loss": loss})}
    return Case(how, tasks, lambda shaken: _of_experiment(how, tasks, dataset(shaken)))


def _of_experiment(how: Experiment, tasks: Mapping[str, Task], data: Dataset) -> dict[str, object]:
    found = run(how, tasks, data)
    table = found.predictions.sort_values(["seed", "utterance"])
    answers = {}
    for name, task in tasks.items():
        column = table[f"{name}.predicted" if task.kind == "regression" else f"{name}.probabilities"]
        answers[name] = summed(np.stack(column))
    result = {
        "folds": found.metrics["folds"]["hash"],
        "losses": found.curves[["train_loss", "valid_loss"]].to_numpy().tolist(),
        "answers": answers,
        "scores": found.metrics["tasks"],
        "chance": found.metrics["chance"],
    }
    if found.predictor:
        with TemporaryDirectory() as folder:
            found.predictor.save(Path(folder), {})
            predictor, config = Predictor.load(Path(folder))
        result |= {"seen": len(found.seen), "format": config["format"]}
        for task, (predicted, probabilities) in predictor(data.features).items():
            result[f"new {task}"] = summed(predicted if probabilities is None else probabilities)
        if how.encoder == "unified":
            result["embedding"] = summed(predictor.embed(data.features))
    return result


def an_elimination(**changes) -> Case:
    """Of the four layers of a view, in two folds of two epochs and on all utterances."""
    section = {"view": "b", "tasks": ["age", "emotion"], "epochs": 2, "learning_rate": 0.02, "batch_size": 16}
    section |= {"shared": 7, "embedding": 17, "folds": {"k": 2, "validation": 0.3}}
    how = Elimination.model_validate(section | changes)
    tasks = {name: TASKS[name] for name in how.tasks}

    def outcome(shaken: float) -> dict[str, object]:
        found = eliminate(how, tasks, dataset(shaken), ["0", "1", "2", "3"])
        result: dict[str, object] = {"pooling": found.pooling, "kept": list(found.chosen.kept_)}
        for pooling in how.poolings:
            for number, each in enumerate([*found.nested[pooling], found.whole[pooling]]):
                result[f"{pooling} {number}"] = {
                    "dropped": [one.weakest for one in each.rounds_],
                    "weights": [list(one.weights.values()) for one in each.rounds_],
                    "valid": [one.valid for one in each.rounds_],
                    "test": [one.test for one in each.rounds_],
                }
        return result

    return Case(how, tasks, outcome)


def a_search(space: Mapping[str, object], how: Mapping[str, object], **changes) -> Case:
    """Over fields of a small experiment."""
    base = an_experiment(**{"encoder": "mlp", "tasks": ["age"], "epochs": 2} | changes).section
    tune = Tune.model_validate({"experiment": "base", "space": space, "trials": 8, "prune": False} | how)
    here = Space(tune, base)
    tasks = {name: TASKS[name] for name in base.tasks}

    def outcome(shaken: float) -> dict[str, object]:
        found = search(here, tasks, lambda experiment: dataset(shaken))
        return {
            "trials": [[t.state, dict(t.params), t.value, dict(t.tasks), list(t.losses)] for t in found.trials],
            "best": found.best.number,
            "test": dict(found.test),
            "importance": dict(found.importance),
        }

    return Case(here, tasks, outcome)


def a_verification(listed: bool = False, most_pairs: int = 10**6, **changes) -> Case:
    """Who spoke, of the layers of a view laid side by side."""
    section = {"views": ["b"], "verify": "speaker", "dimensions": 4, "folds": {"k": 2, "validation": 0.3}}
    how = Verification.model_validate(section | ({"trials": "trials.txt"} if listed else {}) | changes)

    def outcome(shaken: float) -> dict[str, object]:
        data = dataset(shaken)
        speakers = data.labels["speaker"]
        pairs = [(i, (i * 7 + 5) % NUM) for i in range(0, NUM, 4)]
        trials = [(i, j, speakers[i] == speakers[j]) for i, j in pairs if i != j] + [(0, 6, True), (8, 26, True)]
        found = verify(how, data, "b", trials if listed else None, most_pairs=most_pairs)
        table = found.trials.sort_values(["fold", "first", "second"])
        return {
            "scores": found.metrics["tasks"]["speaker"],
            "ratios": summed(table["score"]),
            "trials": [int(found.metrics[name]) for name in ("num_trials", "num_targets", "num_left_out")],
        }

    return Case(how, {}, outcome)


def a_division(overlapping: bool = False, corpora: bool = True, **changes) -> Case:
    """Who trains (`-`), who validates (`v`) and who is tested (`T`), fold by fold."""
    folds = Folds.model_validate(changes)
    data = dataset()
    table = data.labels.copy()
    table["style"] = [("read", "told", "sung")[int(3 * u**2)] for u in uniform(NUM, seed=6)]
    table["some"] = [
        None if i % 4 == 1 or (i % 3 == 0 and name == "valid") else name for i, name in enumerate(table["split"])
    ]
    table["family"] = [f"{name} {i % 5} {i % 4 == 1}" for i, name in enumerate(table["split"])]
    table["clan"] = [f"{name} {int(4 * u**3)}" for name, u in zip(table["speaker"], uniform(NUM, seed=7), strict=True)]
    segments = None
    if overlapping:
        start = np.arange(NUM) % 6 * 2.0
        names = [f"file {i // 6}" for i in range(NUM)]
        segments = Segments(names, start, start + np.where(np.arange(NUM) % 6 == 3, 2.5, 2.0))

    def outcome(shaken: float) -> dict[str, object]:
        found = cross_validation(
            table, data.contents, folds, corpora=data.corpora if corpora else (), segments=segments
        )
        parts = []
        for fold in found:
            marks = np.full(NUM, "?")
            for rows, mark in ((fold.train, "-"), (fold.valid, "v"), (fold.test, "T")):
                marks[rows] = mark
            parts.append("".join(marks))
        return {"folds": parts}

    return Case(folds, {}, outcome)


TWO_VIEWS = {"views": ["a", "b"], "tasks": ["emotion", "age"]}
TRANSPORT = TWO_VIEWS | {"encoder": "cnn", "channels": [5, 7], "hidden": [23], "head": 11}
MANY = {"tasks": ["emotion", "sex", "age", "effort"]}
CASES: dict[str, Case] = {
    "folds: dealt": a_division(k=3, validation=0.2),
    "folds: of another seed": a_division(k=3, validation=0.2, seed=1),
    "folds: stratified": a_division(k=4, stratify="style"),
    "folds: stratified by several": a_division(k=3, stratify=["speaker", "style"], validation=0.25),
    "folds: disjoint by speaker": a_division(k=3, disjoint="speaker", stratify="sex", validation=0.3),
    "folds: of unequal families": a_division(k=3, disjoint="clan", stratify="speaker", validation=0.45),
    "folds: two, of groups": a_division(k=2, disjoint="speaker", validation=0.3),
    "folds: overlapping segments": a_division(overlapping=True, k=3, stratify="style", validation=0.2),
    "folds: disjoint by recording": a_division(overlapping=True, k=3, disjoint="audio", validation=0.2),
    "folds: given": a_division(given="split"),
    "folds: given for some": a_division(given="some", k=4, validation=0.3),
    "folds: given for some families": a_division(given="some", disjoint="family", k=4, validation=0.3),
    "linear": an_experiment(),
    "linear, many tasks": an_experiment(**MANY),
    "mlp": an_experiment(encoder="mlp"),
    "mlp, many tasks": an_experiment(encoder="mlp", **MANY, l1=1e-3, l2=1e-2),
    "mlp, a model per task": an_experiment(encoder="mlp", tasks=["emotion", "age"], joint=False, seeds=[0, 3]),
    "mlp, final": an_experiment(encoder="mlp", **MANY, final=True),
    "mlp, stops early": an_experiment(encoder="mlp", tasks=["age"], epochs=9, patience=1, learning_rate=0.2),
    "mlp, given split": an_experiment(encoder="mlp", folds={"given": "split"}, final=True),
    "cnn": an_experiment(encoder="cnn"),
    "unified": an_experiment(encoder="unified", layers="all", **MANY, final=True),
    "unified, few outputs": an_experiment(encoder="unified", layers="all", tasks=["age"], pooling="mean", batch_size=1),
    **{
        f"pooling {name}": an_experiment(layers="all", pooling=name)
        for name in Experiment.model_fields["pooling"].annotation.__args__
    },
    "concat, linear": an_experiment(**TWO_VIEWS, fusion="concat"),
    "concat, mlp": an_experiment(**TWO_VIEWS, fusion="concat", encoder="mlp"),
    "concat, cnn": an_experiment(**TWO_VIEWS, fusion="concat", encoder="cnn"),
    "ot": an_experiment(**TRANSPORT, fusion="ot"),
    "ot, one way": an_experiment(**TRANSPORT, fusion={"kind": "ot", "direction": "x1->x2"}),
    "ot, the other way": an_experiment(**TRANSPORT, fusion={"kind": "ot", "direction": "x2->x1"}),
    "ot, literal": an_experiment(**TRANSPORT, fusion={"kind": "ot", "transported": "literal"}),
    "ot, sharp": an_experiment(
        **TRANSPORT, fusion={"kind": "ot", "epsilon": 0.02, "iterations": 30, "tolerance": 0.05}
    ),
    **{
        f"ot, {name}": an_experiment(**TWO_VIEWS, fusion={"kind": "ot", "solver": "pot", **section}, encoder="cnn")
        for name, section in {
            "by POT": {"iterations": 7},
            "unbalanced": {"iterations": 7, "regularisation": {"unbalanced": 0.5}},
            "partial": {"iterations": 7, "regularisation": {"partial": 0.7}},
        }.items()
    },
    "ot, between utterances": an_experiment(**TRANSPORT, fusion={"kind": "ot", "support": "batch"}),
    "loss cross_entropy": a_loss("emotion", "cross_entropy"),
    "loss cross_entropy of two": a_loss("sex", "cross_entropy"),
    "loss bce": a_loss("sex", "bce"),
    **{f"loss {name}": a_loss("age", name) for name in ("rmse", "mse", "mae", "ccc")},
    "balancing uncertainty": an_experiment(encoder="mlp", **MANY, balancing="uncertainty"),
    "balancing gradnorm": an_experiment(
        encoder="mlp", **MANY, balancing="gradnorm", epochs=6, batch_size=5, hidden=[23]
    ),
    "balancing random": an_experiment(encoder="mlp", **MANY, balancing="random"),
    "batches balanced": an_experiment(encoder="mlp", **MANY, batches="balanced"),
    "elimination": an_elimination(l1=1e-3, l2=1e-2),
    "elimination, given split, seeds": an_elimination(folds={"given": "split"}, seeds=[0, 4]),
    "elimination, alone": an_elimination(balancing="uncertainty"),
    "elimination by ablation": an_elimination(importance="ablation"),
    "elimination, two poolings": an_elimination(pooling=["learned-norm", "weighted"], tasks=["age"]),
    "search bayesian": a_search(
        {"learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}, "hidden": [[5], [7, 3]]}, {"trials": 13, "seed": 3}
    ),
    "search random": a_search({"l2": {"low": 0.0, "high": 0.1}, "head": {"low": 2, "high": 9}}, {"search": "random"}),
    "search grid": a_search({"batch_size": [8, 16], "encoder": ["linear", "mlp"]}, {"search": "grid"}),
    "search that prunes": a_search(
        {"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}},
        {"search": "random", "prune": True, "trials": 9},
        epochs=6,
        patience=2,
    ),
    "verification": a_verification(),
    "verification, disjoint": a_verification(folds={"k": 2, "disjoint": "speaker"}, dimensions=9),
    "verification, listed": a_verification(listed=True),
    "verification, a sample": a_verification(most_pairs=101),
}


def differences(wanted: object, found: object, where: str = "") -> list[str]:
    """Where an outcome is not as it is written down, a line each; what it has besides is nobody's concern."""
    if isinstance(wanted, dict):
        lacking = [f"{where}: {key} is gone" for key in wanted if key not in found]
        return lacking + [
            line for key in wanted if key in found for line in differences(wanted[key], found[key], f"{where} {key}")
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [line for number, pair in pairs for line in differences(*pair, f"{where} {number}")]
    numbers = all(isinstance(value, int | float) for value in (wanted, found))
    same = np.isclose(found, wanted, TOLERANCE, TOLERANCE, equal_nan=True) if numbers else wanted == found
    return [] if same else [f"{where}: expected {wanted}, found {found}".strip()]


def as_json(outcome: object) -> object:
    """An outcome as it is read back."""
    return json.loads(json.dumps(outcome), parse_float=lambda text: float(f"{float(text):.9g}"))


def write(names: list[str]) -> None:
    """Writes the outcomes of some cases down, of those that are new where none is named."""
    of_a_library = "--library" in names
    names = [name for name in names if name != "--library"]
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    refused = []
    for name in list(CASES) if names == ["all"] else names or [name for name in CASES if name not in known]:
        before, case = known.get(name), CASES[name]
        found = {"revisions": revisions.of(case.section, case.tasks), "outcome": as_json(case.outcome(0.0))}
        if lines := differences(found["outcome"], as_json(case.outcome(SHAKEN))):
            refused.append(f"{name} does not stand firm, choose another case: {lines[0]}")
        elif before and not of_a_library and not may_replace(before, found):
            refused.append(f"{name} has other values than before: {RAISE}")
        else:
            known[name] = found
    lines = [f"{json.dumps(name)}: {json.dumps(known[name])}" for name in CASES if name in known]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    sys.exit("\n".join(refused))


def may_replace(before: Mapping[str, Mapping], found: Mapping[str, Mapping]) -> bool:
    """Whether an outcome may be written down in the place of another: a number of its parts is higher, or it is the
    same but for rounding."""
    raised = any(number > before["revisions"].get(part, 0) for part, number in found["revisions"].items())
    return raised or not differences(before["outcome"], found["outcome"])


if __name__ == "__main__":
    write(sys.argv[1:])
