"""A search for hyperparameters: trials of one experiment, one after the other, scored on validation data alone.

All trials have the split of the experiment's first fold. A trial trains on its training part; its validation part
says when to stop and how good the trial is. The test part is asked once, at the end, of a training with the best
values. Of the experiment's other folds nothing is known here, and their tests are no test of what was found: they
contain utterances that the search has seen.

What is tried next is Optuna's choice (Akiba et al. 2019): its tree-structured Parzen estimator, or chance; a grid is
gone through in order. Every choice is seeded by its number and follows from the trials before it, so that a search
that is told its first trials goes on as it would have gone on.

Which fields take which values is said by `search.space`; files are not this module's business.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from strata.trainers.evaluation.experiment import plan
from strata.trainers.folds import Fold
from strata.trainers.inputs.data import Dataset, Targets, TrainingError
from strata.trainers.inputs.pooled import as_pooled
from strata.trainers.search.space import Space
from strata.trainers.spec import Experiment, Range, Task
from strata.trainers.training.jobs import Job, Stopped, Trained, train, train_all
from strata.trainers.training.workers import Workers, workers_of

STARTUP = 5
"""Trials that must be complete before one is pruned."""

_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class NothingFound(TrainingError):
    """A search all of whose trials failed."""


@dataclass(frozen=True)
class Trial:
    """One try; as JSON it can be written down and handed back."""

    number: int
    """From 0."""
    state: Literal["complete", "pruned", "failed"]
    params: Mapping[str, object]
    """The values of the fields searched."""
    value: float | None = None
    """Mean validation score over the tasks and seeds, higher is better; None unless complete."""
    tasks: Mapping[str, float] = field(default_factory=dict)
    """The same of every task."""
    losses: Sequence[float | None] = ()
    """Where trials are pruned, the validation loss of the first seed's model after every epoch; None: not finite."""
    epochs: int = 0
    """Of the longest of its trainings."""
    seconds: float = 0.0
    reason: str | None = None
    """Why it failed or was pruned; or of which earlier trial it is the same again, whose scores it then has."""


@dataclass(frozen=True)
class SearchOutcome:
    """What a search leaves behind."""

    trials: Sequence[Trial]
    best: Trial
    """The best validation score; of equal ones the first."""
    start: Trial | None
    """The trial that is the experiment as it stands, where there was one."""
    test: Mapping[str, float]
    """Test score of every task after a training with the best values."""
    test_mean: float
    importance: Mapping[str, float]
    """Each field's share in what sets the best trials apart (PED-ANOVA, Watanabe et al. 2023); {} of too few trials."""
    seconds: float


def search(
    space: Space,
    tasks: Mapping[str, Task],
    dataset: Callable[[Experiment], Dataset],
    done: Sequence[Trial] = (),
    note: Callable[[Trial], None] = lambda trial: None,
    workers: int | Workers = 1,
    device: str = "cpu",
) -> SearchOutcome:
    """Runs the trials that are still to come, and the test of the best.

    The same arguments give the same trials to the bit on one machine, however many of them are told in `done`. Every
    model is trained on one thread, since sums over several round differently.

    Args:
        space: what may be tried.
        tasks: those that its experiment names.
        dataset: features of the views and layers that an experiment names, for the same utterances whatever it is.
        done: the first trials of an earlier call with the same arguments, in their order.
        note: called with every further trial as soon as it is over.
        workers: who trains the models of several seeds side by side; or how many processes.
        device: where they are trained: `cpu`, `cuda`, or `auto`.

    Raises:
        TrainingError: labels or folds that cannot work.
        NothingFound: no trial was complete.
    """
    planned = plan(space.base.model_copy(update={"final": False}), tasks, dataset(space.base))
    fold = planned.folds[0]
    for target in planned.targets:
        if not all(target.known[part].any() for part in (fold.train, fold.valid, fold.test)):
            raise TrainingError(
                f"task {target.name}: a part of the first fold has no labelled utterance; label more, lower folds.k, "
                "or drop the task"
            )
    with workers_of(workers, len(space.base.seeds) * len(planned.targets)) as workers:
        return _searched(_Search(space, planned.targets, fold, dataset, workers, device), done, note)


def _searched(run: "_Search", done: Sequence[Trial], note: Callable[[Trial], None]) -> SearchOutcome:
    space = run.space
    for trial in done[: space.num_trials]:
        run.tell(trial)
    while len(run.trials) < space.num_trials:
        note(run.next())
    complete = [trial for trial in run.trials if trial.state == "complete"]
    if not complete:
        raise NothingFound(f"all {len(run.trials)} trials failed, the first of them thus: {run.trials[0].reason}")
    best = max(complete, key=lambda trial: trial.value)
    started, chosen = time.monotonic(), space.experiment(best.params)
    test, _ = run.scores(chosen, run.dataset(chosen), run.fold.test)
    return SearchOutcome(
        trials=run.trials,
        best=best,
        start=next((trial for trial in run.trials if trial.params == space.start), None),
        test=test,
        test_mean=float(np.mean(list(test.values()))),
        importance=run.importance(),
        seconds=sum(trial.seconds for trial in run.trials) + time.monotonic() - started,
    )


def prunes(space: Space) -> bool:
    """Whether trials may end early: where asked for, and where one model's loss tells of the whole trial.

    Of the fields that can be searched, `joint` alone changes what the validation loss is a sum of.
    """
    return space.how.prune and "joint" not in space.axes and (space.base.joint or len(space.base.tasks) == 1)


@dataclass
class _Search:
    """The trials so far, in Optuna's words and in ours."""

    space: Space
    targets: Sequence[Targets]
    fold: Fold
    dataset: Callable[[Experiment], Dataset]
    workers: Workers
    device: str = "cpu"
    trials: list[Trial] = field(default_factory=list)

    @cached_property
    def study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # As many epochs as training waits for a better one: earlier, all that learn slowly would be among the worse.
        pruner = optuna.pruners.MedianPruner(STARTUP, self.space.base.patience)
        return optuna.create_study(direction="maximize", pruner=pruner)

    @cached_property
    def axes(self) -> dict[str, BaseDistribution]:
        """Of a list the values' numbers, since Optuna knows no lists and sections."""
        return {name: self._axis(name, axis) for name, axis in self.space.axes.items()}

    def _axis(self, name: str, axis: Range | list) -> BaseDistribution:
        if not isinstance(axis, Range):
            return CategoricalDistribution(list(range(len(axis))))
        # The last step that lies within; Optuna would take it as well, and warn.
        high = axis.low + axis.step * math.floor((axis.high - axis.low) / axis.step + 1e-9) if axis.step else axis.high
        if name in self.space.whole:
            return IntDistribution(int(axis.low), int(high), log=axis.log, step=int(axis.step or 1))
        return FloatDistribution(axis.low, high, log=axis.log, step=axis.step)

    def tell(self, trial: Trial) -> None:
        """Takes a trial that is over."""
        self.study.add_trial(
            optuna.trial.create_trial(
                state=_STATES[trial.state],
                value=trial.value,
                params=self._numbers(trial.params),
                distributions=self.axes,
                intermediate_values={
                    epoch: -loss for epoch, loss in enumerate(trial.losses, start=1) if loss is not None
                },
            )
        )
        self.trials.append(trial)

    def next(self) -> Trial:
        """Chooses a trial, runs it, and takes what came of it."""
        started = time.monotonic()
        asked = self._ask()
        params = {
            name: axis[asked.params[name]] if isinstance(axis, list) else asked.params[name]
            for name, axis in self.space.axes.items()
        }
        trial = self._again(asked.number, params) or self._run(asked, params)
        self.study.tell(asked, trial.value, state=_STATES[trial.state])
        self.trials.append(replace(trial, seconds=round(time.monotonic() - started, 3)))
        return self.trials[-1]

    def _ask(self) -> optuna.Trial:
        how, number = self.space.how, len(self.trials)
        # Of its own for every trial, so that it is the same after a kill; not `seed + number`, by which two searches
        # of neighbouring seeds would draw the same points.
        seed = int(np.random.SeedSequence([how.seed % 2**32, number]).generate_state(1)[0])
        samplers = optuna.samplers
        self.study.sampler = (samplers.TPESampler if how.search == "bayesian" else samplers.RandomSampler)(seed=seed)
        if how.search == "grid":
            self.study.enqueue_trial(self._numbers(self.space.combinations()[number]))
        elif number == 0 and self.space.start is not None:
            self.study.enqueue_trial(self._numbers(self.space.start))
        return self.study.ask(self.axes)

    def _again(self, number: int, params: Mapping[str, object]) -> Trial | None:
        """An earlier trial of the same values, which trained again would show the same."""
        earlier = next((trial for trial in self.trials if trial.params == params and trial.state != "pruned"), None)
        if earlier is None:
            return None
        reason = f"the same as trial {earlier.number + 1}" if earlier.state == "complete" else earlier.reason
        return replace(earlier, number=number, losses=(), epochs=0, reason=reason)

    def _run(self, asked: optuna.Trial, params: Mapping[str, object]) -> Trial:
        watch = _Watch(asked) if prunes(self.space) else None
        losses = watch.losses if watch else []
        try:
            experiment = self.space.experiment(params)
        except ValueError as error:  # values that do not go together
            return Trial(asked.number, "failed", params, reason=str(error))
        data = self.dataset(experiment)  # whose errors are no fault of the values, and end the search
        try:
            tasks, epochs = self.scores(experiment, data, self.fold.valid, watch)
        except Stopped as stopped:
            return Trial(asked.number, "pruned", params, losses=losses, epochs=len(losses), reason=str(stopped))
        except _Failed as error:
            return Trial(asked.number, "failed", params, losses=losses, epochs=len(losses), reason=str(error))
        return Trial(asked.number, "complete", params, float(np.mean(list(tasks.values()))), tasks, losses, epochs)

    def scores(
        self, experiment: Experiment, data: Dataset, rows: np.ndarray, watch: "_Watch | None" = None
    ) -> tuple[dict[str, float], int]:
        """Trains an experiment on this fold, each of its seeds, and scores its predictions.

        Args:
            experiment: what to train.
            data: with the features that it names.
            rows: the utterances whose predictions count.
            watch: may end the training of the first seed's model, and thus all.

        Raises:
            Stopped: by `watch`.
            TrainingError: a training that diverged, a model that cannot be, or whose worker was ended from outside.

        Returns:
            Each task's mean over the seeds; epochs of the longest training.
        """
        features = [as_pooled(data.features[view]) for view in experiment.views]
        groups = [self.targets] if experiment.joint else [[target] for target in self.targets]
        jobs = [
            Job(experiment, features, group, seed, self.fold.train, self.fold.valid, rows, 0, self.device)
            for seed in experiment.seeds
            for group in groups
        ]
        # The one that is watched comes before all others, which are not trained where it shows that they need not be.
        first = [train(jobs[0], watch)] if watch else []
        trained = first if first and first[0].error else [*first, *self._trained(jobs[len(first) :])]
        found: dict[str, list[float]] = {target.name: [] for target in self.targets}
        for job, each in zip(jobs, trained, strict=False):
            if each.error:
                raise _Failed(str(each.error))
            for target in job.targets:
                predicted, _ = target.kind.predictions(each.outputs[target.name])
                found[target.name].append(target.score(predicted, rows))
        epochs = max(len(each.curve) for each in trained)
        return {name: float(np.mean(values)) for name, values in found.items()}, epochs

    def _trained(self, jobs: Sequence[Job]) -> list[Trained]:
        found = dict(train_all(jobs, self.workers))
        return [found[number] for number in range(len(jobs))]

    def _numbers(self, params: Mapping[str, object]) -> dict[str, object]:
        """The values as Optuna knows them: see `axes`."""
        axes = self.space.axes
        return {
            name: axes[name].index(value) if isinstance(axes[name], list) else value for name, value in params.items()
        }

    def importance(self) -> dict[str, float]:
        """See `SearchOutcome`."""
        values = {trial.value for trial in self.trials if trial.state == "complete"}
        varied = [name for name, axis in self.axes.items() if not axis.single()]
        if len(values) < 2 or not varied:
            return {}
        return optuna.importance.get_param_importances(self.study, params=varied)


class _Failed(TrainingError):
    """One model could not be trained: these values are to be passed over, and no reason to end the search."""


class _Watch:
    """Tells Optuna the validation loss after every epoch, and ends the training where it says so."""

    def __init__(self, trial: optuna.Trial):
        self.trial = trial
        self.losses: list[float | None] = []

    def __call__(self, epoch: int, loss: float) -> None:
        self.losses.append(loss if math.isfinite(loss) else None)
        if not math.isfinite(loss):  # has diverged, which is another thing than being worse
            return
        self.trial.report(-loss, epoch)
        if self.trial.should_prune():
            raise Stopped(f"validation loss {loss:.4g} after {epoch} epochs: worse than that of most others")
