"""Where a linear probe beats a model: the plainest reading of the same views, tested on the same folds, scores better.

A model that loses to one linear layer has not shown what it was built to show; a table in which both are far apart, or
in which nobody put the probe's row beside the other, does not say so by itself. Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strata.pipeline.progress import counted
from strata.pipeline.results import ranking, testsets
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.results.ranking import Criterion
from strata.pipeline.show.tables import number

HEADING = "Beaten by a linear probe of the same views, on the same folds"
PROBE = "linear"
"""The encoder of a probe: heads stand on the views themselves."""


@dataclass(frozen=True)
class Defeat:
    """A model, the probe that beats it, and the task on which it does."""

    model: ExperimentResult
    probe: ExperimentResult
    criterion: Criterion

    @property
    def told(self) -> str:
        """The task and both scores: `speaker accuracy (%) 96.80 against 79.70`."""
        how = ranking.metric(self.criterion[1])
        probe, model = (number(ranking.mean(side, self.criterion) * how.scale) for side in (self.probe, self.model))
        return f"{self.criterion[0]} {how.heading} {probe} against {model}"

    @property
    def margin(self) -> float:
        """By how much, as a share of the model's score or error."""
        probe, model = (ranking.mean(side, self.criterion) for side in (self.probe, self.model))
        return abs(probe - model) / max(abs(model), abs(probe))


def beaten(experiments: Sequence[ExperimentResult]) -> list[str]:
    """A line for each experiment that a linear probe of its own views beats on a task; for a grid's cells together.

    A probe is an experiment of encoder `linear` on the model's views, or on some of them. They are held against each
    other where they were tested on the same folds by the same labels, as their scores are written.
    """
    found: dict[str, list[Defeat]] = {}
    for model in experiments:
        if ranking.encoder(model) not in (PROBE, "–"):
            found.setdefault(model.section, []).extend(_defeats(model, experiments))
    return [_line(defeats, experiments) for defeats in found.values() if defeats]


def _defeats(model: ExperimentResult, experiments: Sequence[ExperimentResult]) -> list[Defeat]:
    """Task by task the best probe, where it is better than the model."""
    probes = [e for e in experiments if ranking.encoder(e) == PROBE and e.views and set(e.views) <= set(model.views)]
    found = []
    for criterion in ranking.criteria([model]):
        if ranking.mean(model, criterion) is None:
            continue
        rivals = [e for e in probes if testsets.tested_on(e, criterion) == testsets.tested_on(model, criterion)]
        best = ranking.best([*rivals, model], criterion)
        if best is not model and not ranking.equals(model, best, criterion):
            found.append(Defeat(model, best, criterion))
    return found


def _line(defeats: Sequence[Defeat], experiments: Sequence[ExperimentResult]) -> str:
    """Of one experiment all tasks; of a grid how many of its cells, and the task on which one loses most."""
    model = defeats[0].model
    if model.is_cell:
        worst = max(defeats, key=lambda defeat: defeat.margin)
        cells = len([e for e in experiments if e.section == model.section])
        count = len({defeat.model.name for defeat in defeats})
        return (
            f"{model.section}: {count} of {counted(cells, 'cell')}, most of all "
            f"{_named(worst.model)} by {_named(worst.probe)}: {worst.told}."
        )
    by_probe: dict[str, list[Defeat]] = {}
    for defeat in defeats:
        by_probe.setdefault(_named(defeat.probe), []).append(defeat)
    told = "; ".join(f"{probe}: {', '.join(defeat.told for defeat in each)}" for probe, each in by_probe.items())
    return f"{_named(model)} by {told}."


def _named(experiment: ExperimentResult) -> str:
    return f"{experiment.name} ({ranking.encoder(experiment)}, {ranking.views(experiment)})"
