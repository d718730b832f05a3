"""One experiment, cross-validated: features and labels in; scores, out-of-fold predictions and a final model out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from trainers.data import Dataset, Targets, TrainingError, targets
from trainers.fit import fit, outputs
from trainers.folds import cross_validation, hold_out
from trainers.metrics import PRIMARY, chance, scores, summary
from trainers.model import Heads
from trainers.predictor import Predictor, answers
from trainers.spec import Experiment, Task


@dataclass(frozen=True)
class Outcome:
    """What an experiment leaves behind."""

    metrics: dict[str, object]
    """`tasks`: {task: {metric: {mean, sd, folds}}}, `kinds`, `primary`, `chance`, `classes`, `num_folds`, …"""
    predictions: pd.DataFrame
    """One row per utterance and seed, predicted by the model of the fold that did not train on it."""
    curves: pd.DataFrame
    """Losses by seed, fold, model (`task_group`) and epoch."""
    predictor: Predictor
    """Trained on all utterances but a validation share; for new audio, not for scores."""


@dataclass(frozen=True)
class _Job:
    """One model to train: the fold's number, or None for the final one."""

    seed: int
    fold: int | None
    group: Sequence[Targets]
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def run(
    experiment: Experiment,
    tasks: Mapping[str, Task],
    data: Dataset,
    progress: Callable[[], None] = lambda: None,
    workers: int = 1,
) -> Outcome:
    """Trains and scores every fold, then one model on everything.

    The same data and experiment give the same result to the bit on one machine, whatever the number of workers.

    Args:
        experiment: what to train.
        tasks: the tasks it names.
        data: features [utterances, layers, dim] of the views it names.
        progress: called after each trained model; there are `num_models(experiment)`.
        workers: processes that train models side by side, one thread each: heads are too small to share a core's work.

    Raises:
        TrainingError: labels or folds that cannot work; raised before any training.
    """
    for name in experiment.tasks:
        if experiment.folds.disjoint and (tasks[name].label or name) == experiment.folds.disjoint:
            raise TrainingError(
                f"task {name} cannot be tested on folds that are disjoint by {name}: drop one of the two"
            )
    goals = [targets(name, tasks[name], data.labels) for name in experiment.tasks]
    groups = [goals] if experiment.joint else [[goal] for goal in goals]
    folds = cross_validation(data.labels, data.contents, experiment.folds)
    for goal in goals:
        if not any(goal.known[fold.test].any() and goal.known[fold.train].any() for fold in folds):
            raise TrainingError(
                f"task {goal.name}: no fold has labels to train and to test on; label more, or drop the task"
            )
    features = [np.ascontiguousarray(data.features[view]) for view in experiment.views]

    nobody = np.empty(0, np.int64)
    rest, valid = hold_out(
        data.labels,
        data.contents,
        experiment.folds,
        _final_rows(experiment, folds, len(data)),
        experiment.folds.validation,
    )
    jobs = [
        _Job(seed, number, group, fold.train, fold.valid, fold.test)
        for seed in experiment.seeds
        for number, fold in enumerate(folds)
        for group in groups
    ] + [_Job(experiment.seeds[0], None, group, rest, valid, nobody) for group in groups]

    tables: dict[tuple[int, int], pd.DataFrame] = {}
    curves, models = [], []
    parallel = Parallel(n_jobs=workers, return_as="generator")
    trained = parallel(delayed(_train)(experiment, job, features) for job in jobs)
    for job, (model, curve, given) in zip(jobs, trained, strict=True):
        if job.fold is None:
            models.append(model)
        else:
            empty = pd.DataFrame({"utterance": np.take(data.utterances, job.test), "fold": job.fold, "seed": job.seed})
            table = tables.setdefault((job.seed, job.fold), empty)
            for goal in job.group:
                _add_answers(table, goal, given[goal.name], job.test)
            curves.append(_curve_table(curve, job))
        progress()
    predictions = pd.concat(tables.values(), ignore_index=True)
    return Outcome(
        metrics=_metrics(experiment, goals, folds, predictions),
        predictions=predictions,
        curves=pd.concat(curves, ignore_index=True),
        predictor=Predictor(models, experiment, goals, [f.shape[1:] for f in features]),
    )


def num_models(experiment: Experiment) -> int:
    """How many models `run` trains at most."""
    folds = 1 if experiment.folds.given else experiment.folds.k
    return (folds * len(experiment.seeds) + 1) * (1 if experiment.joint else len(experiment.tasks))


def _final_rows(experiment: Experiment, folds, num_utterances: int) -> np.ndarray:
    """All utterances; where the corpus names its own test split, that split stays unseen for ever."""
    if experiment.folds.given:
        return np.sort(np.concatenate([folds[0].train, folds[0].valid]))
    return np.arange(num_utterances)


def _train(experiment: Experiment, job: _Job, features: Sequence[np.ndarray]) -> tuple[Heads | None, list, dict]:
    """The trained model (the final ones only), its losses, and its outputs on the job's test utterances."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(job.seed)
        shapes = [f.shape[1:] for f in features]
        model = Heads(shapes, experiment, {goal.name: goal.num_outputs for goal in job.group})
        model.prepare([f[job.train] for f in features])
        tensors = [torch.from_numpy(np.require(f, requirements="W")) for f in features]
        curve = fit(model, tensors, job.group, job.train, job.valid, experiment, job.seed)
        if job.fold is None:
            return model, curve, {}
        return None, curve, outputs(model, tensors, job.test)
    finally:
        torch.set_num_threads(threads)


def _curve_table(curve: list, job: _Job) -> pd.DataFrame:
    table = pd.DataFrame(curve, columns=["epoch", "train_loss", "valid_loss"])
    return table.assign(seed=job.seed, fold=job.fold, task_group=" + ".join(goal.name for goal in job.group))


def _add_answers(table: pd.DataFrame, goal: Targets, output: np.ndarray, rows: np.ndarray) -> None:
    """Adds `<task>.true`, `.predicted` and, for classes, `.probabilities` in the order of the classes."""
    predicted, probabilities = answers(goal, output)
    table[f"{goal.name}.true"] = goal.names(goal.values[rows])
    table[f"{goal.name}.predicted"] = goal.names(predicted)
    if probabilities is not None:
        table[f"{goal.name}.probabilities"] = list(probabilities)


def _metrics(experiment: Experiment, goals: Sequence[Targets], folds, predictions: pd.DataFrame) -> dict[str, object]:
    tasks, by_chance = {}, {}
    for goal in goals:
        kind = goal.task.kind
        per_fold = []
        for _, table in predictions.groupby(["seed", "fold"]):
            table = table[table[f"{goal.name}.true"].notna()]
            true, predicted = (goal.numbers(table[f"{goal.name}.{what}"]) for what in ("true", "predicted"))
            per_fold.append(scores(kind, true, predicted) if len(true) else {})
        names = next(list(fold) for fold in per_fold if fold)
        tasks[goal.name] = {name: summary([fold.get(name) for fold in per_fold]) for name in names}
        known = goal.known
        sides = [(goal.values[f.train][known[f.train]], goal.values[f.test][known[f.test]]) for f in folds]
        guesses = [chance(kind, train, test) if len(train) and len(test) else None for train, test in sides]
        by_chance[goal.name] = {PRIMARY[kind]: summary(guesses)["mean"]}
    return {
        "setup": experiment.setup,
        "views": experiment.views,
        "tasks": tasks,
        "kinds": {goal.name: goal.task.kind for goal in goals},
        "primary": {goal.name: PRIMARY[goal.task.kind] for goal in goals},
        "chance": by_chance,
        "classes": {goal.name: list(goal.classes) for goal in goals if goal.classes},
        "num_utterances": int(predictions["utterance"].nunique()),
        "num_folds": len(folds),
        "seeds": experiment.seeds,
    }
