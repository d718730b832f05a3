"""How experiments are held against each other: what is compared, by which measures, and which is the best.

Knows no files, no tables and no HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.results.reading import mapping
from strata.pipeline.show.tables import is_number, number
from strata.trainers import setups

TITLES = {setups.CONCAT: "concat", setups.FORTH: "x1→x2", setups.BACK: "x2→x1"}
"""How a setup is called at the head of a column."""
ALONE = ("views", "corpora", "tasks", "grid", "joint", "fusion.kind", "fusion.direction")
"""Fields of a section that rows, columns and tables tell apart already."""


@dataclass(frozen=True)
class Metric:
    """How a score is written."""

    title: str
    higher_is_better: bool = True
    scale: int = 1
    """100 where the papers print percent."""

    @property
    def heading(self) -> str:
        """Name, unit, and the direction in which scores get better."""
        return f"{self.title}{' (%)' if self.scale == 100 else ''} {'↑' if self.higher_is_better else '↓'}"

    def beats(self, score: float, other: float) -> bool:
        """Whether the one score is better than the other."""
        return score > other if self.higher_is_better else score < other


METRICS = {
    "accuracy": Metric("accuracy", scale=100),
    "uar": Metric("UAR", scale=100),
    "f1": Metric("macro F1", scale=100),
    "rmse": Metric("RMSE", higher_is_better=False),
    "mae": Metric("MAE", higher_is_better=False),
    "r2": Metric("R²"),
    "ccc": Metric("CCC"),
    "wer": Metric("WER", higher_is_better=False, scale=100),
    "eer": Metric("EER", higher_is_better=False, scale=100),
    "min_dcf": Metric("minDCF", higher_is_better=False),
}


def metric(name: str) -> Metric:
    """How the metric of that name is written; an unknown one is taken for a number of which more is better."""
    return METRICS.get(name, Metric(name))


def views(experiment: ExperimentResult) -> str:
    """The experiment's views in one phrase."""
    return " + ".join(experiment.views) or "–"


Criterion = tuple[str, str]
"""A task, and the metric that it is compared by."""


def by_setup(experiments: Sequence[ExperimentResult]) -> list[ExperimentResult]:
    """In the papers' order of setups; experiments of one setup stay in the order of `params.yaml`, side by side."""
    order = list(dict.fromkeys((*setups.IN_ORDER, *(experiment.setup for experiment in experiments))))
    return sorted(experiments, key=lambda experiment: order.index(experiment.setup))


def criteria(experiments: Sequence[ExperimentResult]) -> list[Criterion]:
    """What the experiments can be compared by, in their order of tasks."""
    return list(dict.fromkeys((task, e.primary[task]) for e in experiments for task in e.tasks))


def mean(experiment: ExperimentResult, criterion: Criterion) -> float | None:
    """The experiment's score; None where it has none by this metric."""
    task, name = criterion
    found = experiment.tasks.get(task, {}).get(name, {}).get("mean")
    return found if experiment.primary.get(task) == name and is_number(found) else None


def best(experiments: Sequence[ExperimentResult], criterion: Criterion) -> ExperimentResult | None:
    """The experiment of the best score, the first of equals; None where none has one."""
    scored = [experiment for experiment in experiments if mean(experiment, criterion) is not None]
    pick = max if metric(criterion[1]).higher_is_better else min
    return pick(scored, key=lambda experiment: mean(experiment, criterion), default=None)


def equals(experiment: ExperimentResult, best: ExperimentResult | None, criterion: Criterion) -> bool:
    """Whether the experiment's score is the best one as far as the table shows."""
    means = [mean(e, criterion) for e in (experiment, best) if e is not None]
    scale = metric(criterion[1]).scale
    return None not in means and len({number(mean * scale) for mean in means}) == 1


def encoder(experiment: ExperimentResult) -> str:
    """What its section takes as the encoder of its views; of a verification, which has none, its model."""
    return str(experiment.config.get("encoder") or ("PLDA" if "verify" in experiment.config else "–"))


def encoders(experiments: Sequence[ExperimentResult]) -> str:
    """Those of several experiments in a phrase."""
    found = list(dict.fromkeys(map(encoder, experiments)))
    return f"encoder{'s' if len(found) > 1 else ''} {', '.join(found)}"


def variants(cells: Sequence[ExperimentResult]) -> dict[str, str]:
    """What tells cells of the same views apart, by name: the setup, and the fields in which cells of a setup differ.

    A setup that all share is told only where there is nothing else to tell.
    """
    found, several = {}, len({cell.setup for cell in cells}) > 1
    for setup in dict.fromkeys(cell.setup for cell in cells):
        members = {cell.name: flat(cell.config) for cell in cells if cell.setup == setup}
        fields = dict.fromkeys(field for config in members.values() for field in config if field not in ALONE)
        varied = [field for field in fields if len({config.get(field) for config in members.values()}) > 1]
        for name, config in members.items():
            apart = [f"{field} {config.get(field, '–')}" for field in varied]
            found[name] = ", ".join([title(setup), *apart] if several or not apart else apart)
    return found


def title(setup: str) -> str:
    """A setup as it is called at the head of a column."""
    return TITLES.get(setup, setup.replace("->", "→"))


def flat(config: Mapping, above: str = "") -> dict[str, str]:
    """The leaves of a section, as text, by their dotted names."""
    leaves: dict[str, str] = {}
    for field, value in config.items():
        inner = mapping(value)
        leaves |= flat(inner, f"{above}{field}.") if inner else {f"{above}{field}": str(value)}
    return leaves
