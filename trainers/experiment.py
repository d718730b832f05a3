"""One experiment, cross-validated: features and labels in; scores, out-of-fold predictions and a final model out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

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


def run(
    experiment: Experiment, tasks: Mapping[str, Task], data: Dataset, progress: Callable[[], None] = lambda: None
) -> Outcome:
    """Trains and scores every fold, then one model on everything.

    The same data, experiment and number of threads give the same result to the bit.

    Args:
        experiment: what to train.
        tasks: the tasks it names.
        data: features [utterances, layers, dim] of the views it names.
        progress: called after each trained model; there are `num_models(experiment)`.

    Raises:
        TrainingError: labels or folds that cannot work; raised before any training.
    """
    for name in experiment.tasks:
        if experiment.folds.disjoint and (tasks[name].label or name) == experiment.folds.disjoint:
            raise TrainingError(f"task {name} cannot be tested on folds that are disjoint by {name}: drop one of the two")
    goals = [targets(name, tasks[name], data.labels) for name in experiment.tasks]
    groups = [goals] if experiment.joint else [[goal] for goal in goals]
    features = [torch.from_numpy(np.ascontiguousarray(data.features[view])) for view in experiment.views]
    folds = cross_validation(data.labels, data.contents, experiment.folds)

    predictions, curves = [], []
    for seed in experiment.seeds:
        for number, fold in enumerate(folds):
            table = pd.DataFrame({"utterance": np.take(data.utterances, fold.test), "fold": number, "seed": seed})
            for group in groups:
                model, curve = _train(experiment, group, features, fold.train, fold.valid, seed)
                curves.append(_curve_table(curve, group, seed, number))
                for goal, output in zip(group, outputs(model, features, fold.test).values(), strict=True):
                    _add_answers(table, goal, output, fold.test)
                progress()
            predictions.append(table)
    predictions = pd.concat(predictions, ignore_index=True)

    rest, valid = hold_out(data.labels, data.contents, experiment.folds, _final_rows(experiment, folds, len(data)),
                           experiment.folds.validation)  # fmt: skip
    models = []
    for group in groups:
        models.append(_train(experiment, group, features, rest, valid, experiment.seeds[0])[0])
        progress()
    return Outcome(
        metrics=_metrics(experiment, goals, folds, predictions),
        predictions=predictions,
        curves=pd.concat(curves, ignore_index=True),
        predictor=Predictor(models, experiment, goals, [tuple(f.shape[1:]) for f in features]),
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


def _train(
    experiment: Experiment, group: Sequence[Targets], features: Sequence[Tensor], train, valid, seed: int
) -> tuple[Heads, list]:
    torch.manual_seed(seed)
    model = Heads([tuple(f.shape[1:]) for f in features], experiment, {goal.name: goal.num_outputs for goal in group})
    model.standardise([f.numpy()[train] for f in features])
    return model, fit(model, features, group, train, valid, experiment, seed)


def _curve_table(curve, group, seed: int, fold: int) -> pd.DataFrame:
    table = pd.DataFrame(curve, columns=["epoch", "train_loss", "valid_loss"])
    return table.assign(seed=seed, fold=fold, task_group=" + ".join(goal.name for goal in group))


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
        names = next((list(fold) for fold in per_fold if fold), None)
        if names is None:
            raise TrainingError(f"task {goal.name}: no test utterance has a label; label some, or drop the task")
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
