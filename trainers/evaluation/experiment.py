"""Experiments, cross-validated: features and labels in; scores, out-of-fold predictions and a final model out.

One experiment or the hundreds of cells of a grid: `plan` says which models one needs, `training.jobs` trains those of
all of them side by side, and `run_all` puts each experiment's answers together as soon as they are there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from strata.trainers.evaluation.kept import Kept
from strata.trainers.evaluation.predictor import Predictor
from strata.trainers.folds import Fold, digest, refuse_untestable
from strata.trainers.folds.shared import Division, division
from strata.trainers.inputs.data import Dataset, Targets, TrainingError, targets_of
from strata.trainers.inputs.pooled import as_pooled
from strata.trainers.spec import Experiment, Task
from strata.trainers.tasks.metrics import summary
from strata.trainers.training.jobs import Job, Trained, told, train_all
from strata.trainers.training.workers import Workers, workers_of


@dataclass(frozen=True)
class Evaluation:
    """What an experiment leaves behind."""

    metrics: dict[str, object]
    """`tasks`: {task: {metric: {mean, sd, folds}}}, `kinds`, `primary`, `chance`, `classes`, `folds`, …"""
    predictions: pd.DataFrame
    """One row per utterance and seed, predicted by the model of the fold that did not train on it."""
    curves: pd.DataFrame
    """Losses by seed, fold, model (`task_group`) and epoch."""
    predictor: Predictor | None
    """Trained on all utterances but a validation share; for new audio, not for scores. None where not asked for."""
    seconds: float
    """Of training, summed over the models."""
    seen: Sequence[str]
    """Contents of the audio that the predictor was trained on, validation included."""
    notes: Sequence[str] = ()
    """What is to be known of the folds, a line each, for whoever reads the scores."""


@dataclass(frozen=True)
class Plan:
    """All that one experiment needs to be trained."""

    experiment: Experiment
    utterances: Sequence[str]
    contents: Sequence[str]
    targets: Sequence[Targets]
    division: Division
    jobs: Sequence[Job]
    kept: Kept | None = None
    """Where to find what its models have answered in a run that was ended, and to keep what they answer in this one."""

    @property
    def folds(self) -> Sequence[Fold]:
        """Who trains, validates and is tested."""
        return self.division.folds

    @property
    def order(self) -> np.ndarray:
        """All utterances by their names: see `Dataset.rank`."""
        return self.division.order


def run(
    experiment: Experiment,
    tasks: Mapping[str, Task],
    data: Dataset,
    progress: Callable[[], None] = lambda: None,
    workers: int | Workers = 1,
) -> Evaluation:
    """Trains and scores every fold, then one model on everything; see `run_all`.

    Raises:
        TrainingError: labels or folds that cannot work, raised before any training; or a loss that never was finite.
    """
    (found,) = run_all([lambda: plan(experiment, tasks, data)], progress, workers)
    if isinstance(found, Exception):
        raise found
    return found


def run_all(
    plans: Iterable[Callable[[], Plan]], progress: Callable[[], None] = lambda: None, workers: int | Workers = 1
) -> Iterator[Evaluation | Exception]:
    """Trains many experiments, their models side by side; gives each outcome as soon as its last model is there.

    The same data and experiment give the same result to the bit on one machine, whatever the number of workers and
    whatever else is trained. Whatever goes wrong with one is given in the place of its outcome, and the others are
    trained.

    Args:
        plans: each makes one plan, called when there soon is somebody to train its models.
        progress: called after each trained model.
        workers: who trains them; or how many processes, which are started when that has begun to pay.

    Returns:
        In the order of the plans what came of each: the error of one that could not be trained.
    """
    begun: dict[int, _Begun | Exception] = {}
    places: list[tuple[int, int]] = []
    given = 0

    def jobs() -> Iterator[Job]:
        for number, make in enumerate(plans):
            begun[number] = _begun(make)
            for _ in getattr(begun[number], "found", ()):  # what a run that was ended has left
                progress()
            for place, job in _missing(begun[number]):
                places.append((number, place))
                yield job

    with workers_of(workers) as workers:
        for at, trained in train_all(jobs(), workers):
            number, place = places[at]
            begun[number].take(place, trained)
            progress()
            while given in begun and (outcome := _outcome_or_nothing(begun[given])):
                del begun[given]  # and with it what its models answered
                given += 1
                yield outcome
    yield from map(_outcome_or_nothing, begun.values())


def plan(experiment: Experiment, tasks: Mapping[str, Task], data: Dataset, device: str = "cpu") -> Plan:
    """The models that an experiment needs.

    Args:
        experiment: what to train.
        tasks: the tasks it names.
        data: features [utterances, layers, dim] of the views it names.
        device: where its models are trained: `cpu`, `cuda`, or `auto`.

    Raises:
        TrainingError: labels or folds that cannot work.
    """
    refuse_untestable(experiment.folds, {name: tasks[name] for name in experiment.tasks})
    targets = [targets_of(name, tasks[name], data.labels, data.corpora) for name in experiment.tasks]
    groups = [targets] if experiment.joint else [[target] for target in targets]
    divided = division(data, experiment.folds)
    folds = divided.folds
    for number, fold in enumerate(folds):
        for part, rows in vars(fold).items():
            if not len(rows):
                cure = "name one for it in the corpus's own split" if experiment.folds.given else "lower folds.k"
                raise TrainingError(
                    f"fold {number} of {len(folds)} has no utterances in its {part} part; {cure}, or add data"
                )
    for target in targets:
        if not any(target.known[fold.test].any() and target.known[fold.train].any() for fold in folds):
            raise TrainingError(
                f"task {target.name}: no fold has labels to train and to test on; label more, or drop the task"
            )
    features = [as_pooled(data.features[view]) for view in experiment.views]
    jobs = [
        Job(experiment, features, group, seed, fold.train, fold.valid, fold.test, number, device)
        for seed in experiment.seeds
        for number, fold in enumerate(folds)
        for group in groups
    ]
    if experiment.final:
        whole = divided.whole
        sides = (whole.train, whole.valid, whole.test)
        jobs += [Job(experiment, features, group, experiment.seeds[0], *sides, None, device) for group in groups]
    for job in jobs:
        if not any(target.known[job.valid].any() for target in job.targets):
            raise TrainingError(
                f"task {', '.join(target.name for target in job.targets)}: no validation utterance is labelled, so "
                "nothing says when to stop; label more, or try folds.stratify or fewer folds"
            )
        for target in job.targets:
            if job.fold is None and not target.known[job.train].any():
                raise TrainingError(
                    f"task {target.name}: no utterance that the final model is trained on is labelled; label more, "
                    "drop the task, or ask for no such model (final: false)"
                )
    return Plan(experiment, data.utterances, data.contents, targets, divided, jobs)


def num_models(experiment: Experiment) -> int:
    """How many models `run` trains at most."""
    folds = 1 if experiment.folds.given else experiment.folds.k
    return (folds * len(experiment.seeds) + experiment.final) * (1 if experiment.joint else len(experiment.tasks))


@dataclass(frozen=True)
class _Begun:
    """A plan whose models are being trained."""

    plan: Plan
    found: dict[int, Trained]
    """By the numbers of its jobs."""

    @classmethod
    def of(cls, plan: Plan) -> "_Begun":
        return cls(plan, plan.kept.read(plan.jobs) if plan.kept else {})

    @property
    def jobs(self) -> Sequence[Job]:
        return self.plan.jobs

    def take(self, place: int, trained: Trained) -> None:
        self.found[place] = trained
        if self.plan.kept:
            self.plan.kept.note(place, trained)


def _missing(begun: _Begun | Exception) -> list[tuple[int, Job]]:
    """The jobs that are to be done, with their numbers."""
    if isinstance(begun, Exception):
        return []
    return [(place, job) for place, job in enumerate(begun.jobs) if place not in begun.found]


def _begun(make: Callable[[], Plan]) -> _Begun | Exception:
    """A plan; what goes wrong with it is an outcome of its own."""
    try:
        return _Begun.of(make())
    except MemoryError:
        return TrainingError("its features do not fit into memory; take fewer layers or utterances")
    except Exception as error:
        return error if isinstance(error, ValueError | OSError) else told(error)


def _outcome_or_nothing(begun: _Begun | Exception) -> Evaluation | Exception | None:
    """What has come of a plan; None while models are missing."""
    if isinstance(begun, Exception):
        return begun
    if len(begun.found) < len(begun.jobs):
        return None
    try:
        return _outcome(begun.plan, [begun.found[place] for place in range(len(begun.jobs))])
    except Exception as error:
        return told(error)


def _outcome(plan: Plan, trained: Sequence[Trained]) -> Evaluation | Exception:
    """What the models of a plan come to; the first error among them, where one could not be trained."""
    if errors := [each.error for each in trained if each.error]:
        return errors[0]
    tables: dict[tuple[int, int], pd.DataFrame] = {}
    curves, models = [], []
    for job, found in zip(plan.jobs, trained, strict=True):
        if job.fold is None:
            models.append(found.model)
            continue
        empty = pd.DataFrame({"utterance": np.take(plan.utterances, job.test), "fold": job.fold, "seed": job.seed})
        table = tables.setdefault((job.seed, job.fold), empty)
        for target in job.targets:
            _add_predictions(table, target, found.outputs.pop(target.name), job)  # not needed twice
        curves.append(_curve_table(found.curve, job))
    predictions = pd.concat(tables.values(), ignore_index=True)
    shapes = [f.shape[1:] for f in plan.jobs[0].features]
    return Evaluation(
        metrics=_metrics(plan, predictions),
        predictions=predictions,
        curves=pd.concat(curves, ignore_index=True),
        predictor=Predictor(models, plan.experiment, plan.targets, shapes) if models else None,
        seconds=sum(each.seconds for each in trained),
        seen=_seen(plan),
        notes=plan.division.notes,
    )


def _seen(plan: Plan) -> list[str]:
    final = next((job for job in plan.jobs if job.fold is None), None)
    rows = [] if final is None else np.concatenate([final.train, final.valid])
    return sorted({plan.contents[row] for row in rows})


def _curve_table(curve: list, job: Job) -> pd.DataFrame:
    table = pd.DataFrame(curve, columns=["epoch", "train_loss", "valid_loss"])
    return table.assign(seed=job.seed, fold=job.fold, task_group=" + ".join(target.name for target in job.targets))


def _add_predictions(table: pd.DataFrame, target: Targets, output: np.ndarray, job: Job) -> None:
    """Adds `<task>.true`, `.predicted` and, for classes, `.probabilities` in the order of the classes.

    A head that no training label has reached has no answers: what it says are its random weights.
    """
    predicted, probabilities = target.kind.predictions(output)
    if not target.known[job.train].any():
        predicted = np.full_like(predicted, target.kind.unlabelled)
        probabilities = None if probabilities is None else np.full_like(probabilities, np.nan)
    table[f"{target.name}.true"] = target.names(target.values[job.test])
    table[f"{target.name}.predicted"] = target.names(predicted)
    if probabilities is not None:
        table[f"{target.name}.probabilities"] = list(probabilities)


def _is_scored(table: pd.DataFrame, target: Targets) -> pd.Series:
    """Which utterances are labelled, and answered by a head that was trained."""
    return table[[f"{target.name}.true", f"{target.name}.predicted"]].notna().all(axis=1)


def _metrics(plan: Plan, predictions: pd.DataFrame) -> dict[str, object]:
    tasks, by_chance = {}, {}
    for target in plan.targets:
        kind, primary = target.kind, target.task.primary
        per_fold = []
        for _, table in predictions.groupby(["seed", "fold"]):
            table = table[_is_scored(table, target)]
            true, predicted = (target.numbers(table[f"{target.name}.{what}"]) for what in ("true", "predicted"))
            per_fold.append(kind.scores(true, predicted) if len(true) else {})
        names = next(list(fold) for fold in per_fold if fold)
        tasks[target.name] = {name: summary([fold.get(name) for fold in per_fold]) for name in names}
        known = target.known
        sides = [(target.values[f.train][known[f.train]], target.values[f.test][known[f.test]]) for f in plan.folds]
        guesses = [kind.chance(train, test, primary) if len(train) and len(test) else None for train, test in sides]
        by_chance[target.name] = {primary: summary(guesses)["mean"]}
    return {
        "setup": plan.experiment.setup,
        "views": plan.experiment.views,
        "tasks": tasks,
        "kinds": {target.name: target.task.kind for target in plan.targets},
        "primary": {target.name: target.task.primary for target in plan.targets},
        "chance": by_chance,
        "classes": {target.name: list(target.classes) for target in plan.targets if target.classes},
        "num_utterances": int(predictions["utterance"].nunique()),
        "num_tested": {
            target.name: int(predictions["utterance"][_is_scored(predictions, target)].nunique())
            for target in plan.targets
        },
        "num_folds": len(plan.folds),
        "folds": plan.division.record,
        "truth": {
            target.name: digest([*target.classes, target.values[plan.order].tolist()]) for target in plan.targets
        },
        "seeds": plan.experiment.seeds,
    }
