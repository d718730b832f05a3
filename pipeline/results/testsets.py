"""On what experiments were tested, and which scores may therefore be held against each other.

Scores compete where they were taken on the same folds of the same utterances, by the same labels: on another test set
the same model has another score. Knows no files and no tables.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from strata.pipeline.results import ranking
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.results.ranking import Criterion
from strata.pipeline.show.tables import is_number


def folds_of(experiment: ExperimentResult) -> Hashable:
    """What experiments share that were tested on the same folds of the same utterances.

    Results of an earlier version do not tell their folds; those are the same where the sections, the corpora and the
    number of utterances are.
    """
    if found := experiment.folds.get("hash"):
        return str(found), experiment.num_utterances
    return str(experiment.config.get("folds")), experiment.corpora, experiment.num_utterances


def tested_on(experiment: ExperimentResult, criterion: Criterion) -> Hashable:
    """What two scores by one measure must share to be compared: folds, and the task's labels."""
    task, _ = criterion
    labels = experiment.truth.get(task) or tuple(map(str, experiment.classes.get(task, ())))
    return folds_of(experiment), labels


def alike(experiments: Sequence[ExperimentResult], criterion: Criterion) -> list[list[ExperimentResult]]:
    """Those that have a score, by what they were tested on: the largest group first, of equal ones that of the most
    utterances, then the first."""
    groups: dict[Hashable, list[ExperimentResult]] = {}
    for experiment in experiments:
        if ranking.mean(experiment, criterion) is not None:
            groups.setdefault(tested_on(experiment, criterion), []).append(experiment)
    return sorted(groups.values(), key=lambda members: (-len(members), -max(counts(members[0]), default=0)))


def most_shared(experiments: Sequence[ExperimentResult], criterion: Criterion) -> list[ExperimentResult]:
    """Those of the test set that most of them share; none where none has a score."""
    return next(iter(alike(experiments, criterion)), [])


def winners(experiments: Sequence[ExperimentResult], criterion: Criterion) -> list[bool]:
    """For each whether its score is the best, as far as a table shows it, among those tested on the same.

    Nobody wins without a rival.
    """
    best = {}
    for members in alike(experiments, criterion):
        if len(members) > 1:
            best[tested_on(members[0], criterion)] = ranking.best(members, criterion)
    rivals = [best.get(tested_on(experiment, criterion)) for experiment in experiments]
    pairs = zip(experiments, rivals, strict=True)
    return [rival is not None and ranking.equals(experiment, rival, criterion) for experiment, rival in pairs]


def counts(experiment: ExperimentResult, task: str | None = None) -> list[int]:
    """On how many utterances each of its tasks was tested, or that task alone."""
    tasks = [task] if task else experiment.tasks
    found = [experiment.num_tested.get(each, experiment.num_utterances) for each in tasks]
    return [count for count in found or [experiment.num_utterances] if is_number(count)]
