"""Where a linear probe beats a model: the plainest reading of the same views, tested on the same folds, scores better.

A model that loses to one linear layer has not shown what it was built to show; a table in which both are far apart, or
in which nobody put the probe's row beside the other, does not say so by itself. Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strata.pipeline.report import testsets
from strata.pipeline.results import ranking
from strata.pipeline.results.experiments import Experiment
from strata.pipeline.results.ranking import Target
from strata.pipeline.show.tables import counted, number

HEADING = "Beaten by a linear probe of the same views, on the same folds"
PROBE = "linear"
"""The encoder of a probe: heads stand on the views themselves."""


@dataclass(frozen=True)
class Loss:
    """A model, the probe that beats it, and the task on which it does."""

    model: Experiment
    probe: Experiment
    target: Target

    @property
    def told(self) -> str:
        """The task and both scores: `speaker accuracy (%) 96.80 against 79.70`."""
        how = ranking.metric(self.target[1])
        probe, model = (number(ranking.mean(side, self.target) * how.scale) for side in (self.probe, self.model))
        return f"{self.target[0]} {how.heading} {probe} against {model}"

    @property
    def margin(self) -> float:
        """By how much, as a share of the model's score or error."""
        probe, model = (ranking.mean(side, self.target) for side in (self.probe, self.model))
        return abs(probe - model) / max(abs(model), abs(probe))


def beaten(experiments: Sequence[Experiment]) -> list[str]:
    """A line for each experiment that a linear probe of its own views beats on a task; for a grid's cells together.

    A probe is an experiment of encoder `linear` on the model's views, or on some of them. They are held against each
    other where they were tested on the same folds by the same labels, as their scores are written.
    """
    found: dict[str, list[Loss]] = {}
    for model in experiments:
        if ranking.encoder(model) not in (PROBE, "–"):
            found.setdefault(model.section, []).extend(_losses(model, experiments))
    return [_line(losses, experiments) for losses in found.values() if losses]


def _losses(model: Experiment, experiments: Sequence[Experiment]) -> list[Loss]:
    """Task by task the best probe, where it is better than the model."""
    probes = [e for e in experiments if ranking.encoder(e) == PROBE and e.views and set(e.views) <= set(model.views)]
    found = []
    for target in ranking.targets([model]):
        if ranking.mean(model, target) is None:
            continue
        rivals = [e for e in probes if testsets.tested_on(e, target) == testsets.tested_on(model, target)]
        best = ranking.best([*rivals, model], target)
        if best is not model and not ranking.equals(model, best, target):
            found.append(Loss(model, best, target))
    return found


def _line(losses: Sequence[Loss], experiments: Sequence[Experiment]) -> str:
    """Of one experiment all tasks; of a grid how many of its cells, and the task on which one loses most."""
    model = losses[0].model
    if model.is_cell:
        worst = max(losses, key=lambda loss: loss.margin)
        cells = len([e for e in experiments if e.section == model.section])
        count = len({loss.model.name for loss in losses})
        return (
            f"{model.section}: {count} of {counted(cells, 'cell')}, most of all "
            f"{_named(worst.model)} by {_named(worst.probe)}: {worst.told}."
        )
    by_probe: dict[str, list[Loss]] = {}
    for loss in losses:
        by_probe.setdefault(_named(loss.probe), []).append(loss)
    told = "; ".join(f"{probe}: {', '.join(loss.told for loss in each)}" for probe, each in by_probe.items())
    return f"{_named(model)} by {told}."


def _named(experiment: Experiment) -> str:
    return f"{experiment.name} ({ranking.encoder(experiment)}, {ranking.views(experiment)})"
