"""A view's layers, eliminated in every fold and once more on all utterances: the stage's one call into the trainers.

Which layers go is for `search.elimination`, how models are trained for `training.together` and `training.fit`; this
module says which models a round needs, scores them, and puts the outcome together. Every round trains from scratch
with given seeds, so that a round that was written down stands for its training: a killed elimination goes on there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from strata.trainers.folds import Fold, refuse_untestable
from strata.trainers.folds.shared import division
from strata.trainers.inputs.batches import gathered
from strata.trainers.inputs.data import Dataset, Targets, TrainingError, targets_of
from strata.trainers.inputs.pooled import Pooled, as_pooled
from strata.trainers.models.unified import UnifiedEmbedding
from strata.trainers.search.elimination import LayerElimination, Round
from strata.trainers.spec import Elimination, Pooling, Task
from strata.trainers.tasks.losses import task_loss
from strata.trainers.training.device import resolved
from strata.trainers.training.fit import EVALUATION_BATCH, device_of, fit, outputs
from strata.trainers.training.jobs import in_turn, refuse_not_finite
from strata.trainers.training.together import Ran, Run, Together
from strata.trainers.training.workers import Workers, in_order, workers_of


@dataclass(frozen=True)
class Key:
    """Which round."""

    pooling: Pooling
    fold: int | None
    """None: on all utterances."""
    number: int
    """From 1."""


@dataclass(frozen=True)
class Eliminations:
    """What an elimination leaves behind."""

    folds: Sequence[Fold]
    nested: Mapping[Pooling, Sequence[LayerElimination]]
    """For each pooling the elimination in each fold."""
    whole: Mapping[Pooling, LayerElimination]
    """For each pooling the one on all utterances; where the corpus gives its own split, that of its one fold."""

    @property
    def pooling(self) -> Pooling:
        """The pooling chosen, by validation data alone."""
        return _chosen(self.whole)

    @property
    def chosen(self) -> LayerElimination:
        """The elimination whose layers are kept."""
        return self.whole[self.pooling]

    def nested_choices(self) -> list[tuple[Pooling, Round]]:
        """What each fold chose by its own validation data, whose test score is thus nobody's choice."""
        choices = []
        for number in range(len(self.folds)):
            here = {pooling: found[number] for pooling, found in self.nested.items()}
            pooling = _chosen(here)
            choices.append((pooling, here[pooling].best_))
        return choices


def _chosen(found: Mapping[Pooling, LayerElimination]) -> Pooling:
    """The pooling with the best validation score; of equal ones that with fewer layers, then the first named."""
    best = {pooling: (each.scores_.max(), -len(each.kept_)) for pooling, each in found.items()}
    return max(best, key=best.get)


def eliminate(
    how: Elimination,
    tasks: Mapping[str, Task],
    data: Dataset,
    layer_names: Sequence[str],
    done: Mapping[Key, Round] | None = None,
    note: Callable[[Key, Round], None] = lambda key, found: None,
    workers: int | Workers = 1,
    device: str = "cpu",
) -> Eliminations:
    """Runs the elimination on one view.

    Args:
        how: the section of params.yaml.
        tasks: the tasks it names.
        data: features [utterances, layers, dim] of the view it names, all layers.
        layer_names: names of those layers.
        done: rounds that an earlier call with the same arguments has noted.
        note: called with every round as soon as its models are trained.
        workers: who trains models side by side, where they cannot be trained together; or how many processes.
        device: where they are trained: `cpu`, `cuda`, or `auto`.

    Raises:
        TrainingError: labels or folds that cannot work; a training that diverged; a worker process that was ended from
            outside.
    """
    refuse_untestable(how.folds, {name: tasks[name] for name in how.tasks})
    targets = [targets_of(name, tasks[name], data.labels, data.corpora) for name in how.tasks]
    divided = division(data, how.folds)
    folds = divided.folds
    splits: dict[int | None, Fold] = dict(enumerate(folds))
    if not how.folds.given:  # else the corpus's test data stays unseen, and its one fold is all there is
        splits[None] = divided.whole
    for target in targets:
        for fold in splits.values():
            parts = [fold.train, fold.valid, *([fold.test] if len(fold.test) else [])]
            if not all(target.known[part].any() for part in parts):
                raise TrainingError(
                    f"task {target.name}: a part of a fold has no labelled utterance; label more, lower folds.k, "
                    "or drop the task"
                )
    view = as_pooled(data.features[how.view])
    with workers_of(workers, len(splits) * len(how.seeds)) as workers:
        rounds = _Rounds(how, targets, view, splits, list(layer_names), done or {}, note, workers, device)
        found = {pooling: rounds.run(pooling) for pooling in how.poolings}
    whole = None if None in splits else 0
    return Eliminations(
        folds,
        nested={pooling: [each[number] for number in range(len(folds))] for pooling, each in found.items()},
        whole={pooling: each[whole] for pooling, each in found.items()},
    )


def num_rounds(how: Elimination, num_layers: int) -> int:
    """How many rounds `eliminate` runs, over all folds and poolings."""
    folds = 1 if how.folds.given else how.folds.k + 1
    return folds * num_layers * len(how.poolings)


@dataclass
class _Rounds:
    """The rounds of all folds, one after the other."""

    how: Elimination
    targets: Sequence[Targets]
    view: Pooled
    splits: Mapping[int | None, Fold]
    layer_names: Sequence[str]
    done: Mapping[Key, Round]
    note: Callable[[Key, Round], None]
    workers: Workers
    device: str
    together: Together = field(init=False)

    def __post_init__(self):
        folds = list(self.splits.values())
        self.together = Together(self.how, self.targets, self.view, folds, resolved(self.device))

    def run(self, pooling: Pooling) -> dict[int | None, LayerElimination]:
        """The elimination of every fold, round by round in step: models of one round have one shape."""
        found = {fold: LayerElimination() for fold in self.splits}
        for each in found.values():
            each.begin(self.layer_names)
        for number in range(1, len(self.layer_names) + 1):
            keys = {fold: Key(pooling, fold, number) for fold in self.splits}
            missing = {fold: each.remaining_ for fold, each in found.items() if keys[fold] not in self.done}
            new = self._train(pooling, missing) if missing else {}
            for fold, each in found.items():
                if fold in new:
                    self.note(keys[fold], new[fold])
                each.take(new[fold] if fold in new else self.done[keys[fold]])
        return found

    def _train(self, pooling: Pooling, layers: Mapping[int | None, tuple[str, ...]]) -> dict[int | None, Round]:
        """One round in each of some folds: what the models of all seeds show on the layers that remain there."""
        order = list(self.splits)
        numbers = {name: number for number, name in enumerate(self.layer_names)}
        runs = [
            Run(order.index(fold), tuple(numbers[name] for name in remaining), seed)
            for fold, remaining in layers.items()
            for seed in self.how.seeds
        ]
        trained = self._trained(pooling, runs)
        for ran in trained:
            refuse_not_finite(ran.outputs)
        found = {}
        for place, (fold, remaining) in enumerate(layers.items()):
            many = len(self.how.seeds)
            found[fold] = self._round(self.splits[fold], remaining, trained[place * many : (place + 1) * many])
        return found

    def _trained(self, pooling: Pooling, runs: Sequence[Run]) -> list[Ran]:
        how = self.how
        if how.trains_together(pooling):
            return self.together.train(runs)
        folds = list(self.splits.values())
        alone = partial(train_alone, how, pooling, self.targets, self.view, device=self.device)
        found = in_order(alone, [(folds[run.fold], run) for run in runs], self.workers)
        if errors := [each for each in found if isinstance(each, Exception)]:
            raise errors[0]
        return found

    def _round(self, fold: Fold, layers: Sequence[str], ran: Sequence[Ran]) -> Round:
        """The mean over the seeds."""
        valid = [self._scores(each, fold.valid, slice(0, len(fold.valid))) for each in ran]
        test = [self._scores(each, fold.test, slice(len(fold.valid), None)) for each in ran if len(fold.test)]
        weights = [dict(zip(layers, each.weights.tolist(), strict=True)) for each in ran]
        means, spread = zip(*(_summary(found) for found in (weights, valid, test)), strict=True)
        return Round(*means, dict(zip(("weights", "valid", "test"), spread, strict=True)))

    def _scores(self, ran: Ran, rows: np.ndarray, part: slice) -> dict[str, float]:
        result = {}
        for target in self.targets:
            predicted, _ = target.kind.predictions(ran.outputs[target.name][part])
            result[target.name] = target.score(predicted, rows)
        return result | {"mean": float(np.mean(list(result.values())))}


def _summary(found: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Means and standard deviations by name; nothing of nothing, and no standard deviation of one."""
    names = found[0] if found else ()
    mean = {name: float(np.mean([each[name] for each in found])) for name in names}
    if len(found) < 2:
        return mean, {}
    return mean, {name: float(np.std([each[name] for each in found], ddof=1)) for name in names}


def train_alone(
    how: Elimination,
    pooling: Pooling,
    targets: Sequence[Targets],
    view: Pooled,
    which: tuple[Fold, Run],
    watch: Callable[[int, float], None] = lambda epoch, valid_loss: None,
    device: str = "cpu",
) -> Ran:
    """Trains one run by the loop of all heads: what `training.together` does for many, for any pooling."""
    fold, run = which
    with in_turn(run.seed):
        sizes = {target.name: target.num_outputs for target in targets}
        seen = view.select(run.layers)
        model = UnifiedEmbedding(*seen.shape[1:], how, sizes, pooling)
        model.prepare([seen], fold.train)
        model.to(resolved(device))
        curve = fit(model, [seen], targets, fold.train, fold.valid, how, run.seed, watch)
        given = outputs(model, [seen], np.concatenate([fold.valid, fold.test]))
        if how.importance_of(pooling) == "weights":
            weights = model.pooling.weights.detach().cpu().numpy()
        else:
            weights = _losses_without(model, targets, seen, fold)
        return Ran(weights, given, curve)


@torch.inference_mode()
def _losses_without(model: UnifiedEmbedding, targets: Sequence[Targets], view: Pooled, fold: Fold) -> np.ndarray:
    """[layers]: how much the validation loss rises when a layer is held at its training mean, nothing trained anew."""
    model.eval()
    device = device_of(model)
    labels = [torch.from_numpy(target.scaled(fold.train)[0][fold.valid]).to(device) for target in targets]
    parts_of = torch.tensor(fold.valid).split(EVALUATION_BATCH)

    def loss(without: int | None = None) -> float:
        parts = [model.outputs(model.hidden(x, without)) for _, (x,) in gathered([view], parts_of, device)]
        return sum(
            target.task.weight
            * task_loss(target.task.effective_loss, torch.cat([p[target.name] for p in parts]), label)
            for target, label in zip(targets, labels, strict=True)
        ).item()

    with_all = loss()
    return np.array([loss(layer) - with_all for layer in range(view.shape[1])])
