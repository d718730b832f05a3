"""How experiments are held against each other: what is compared, how a score is written, which is the best.

A score stands in a table as mean ± SD over folds; the best of a column is marked by what the table shows of it. Knows
no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from strata.pipeline.results.experiments import Experiment
from strata.pipeline.results.reading import mapping
from strata.pipeline.show.tables import Cell, Column, is_number, number

SETUPS = ("SVST", "SVMT", "MVMT-concat", "TANGO")
"""The setups of the TANGO paper in its order; any other follows in the order of `params.yaml`."""


TITLES = {"MVMT-concat": "concat", "TANGO x1->x2": "x1→x2", "TANGO x2->x1": "x2→x1"}
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


def views(experiment: Experiment) -> str:
    """The experiment's views in one phrase."""
    return " + ".join(experiment.views) or "–"


Target = tuple[str, str]
"""A task, and the metric that it is compared by: a column of the comparison."""


def by_setup(experiments: Sequence[Experiment]) -> list[Experiment]:
    """In the papers' order of setups; experiments of one setup stay in the order of `params.yaml`, side by side."""
    setups = list(dict.fromkeys((*SETUPS, *(experiment.setup for experiment in experiments))))
    return sorted(experiments, key=lambda experiment: setups.index(experiment.setup))


def targets(experiments: Sequence[Experiment]) -> list[Target]:
    """What the experiments can be compared by, in their order of tasks."""
    return list(dict.fromkeys((task, e.primary[task]) for e in experiments for task in e.tasks))


def headings(targets: Sequence[Target]) -> list[Column]:
    """A column per target."""
    return [heading(target, target[0]) for target in targets]


def heading(target: Target, title: str, above: bool = False) -> Column:
    """The heading of a target's column; `above` where the title is a variant's and the task stands over several."""
    how = metric(target[1])
    task = {"above": target[0], "above_small": how.heading} if above else {"small": how.heading}
    return Column(title, numeric=True, lowest_first=not how.higher_is_better, **task)


def mean(experiment: Experiment, target: Target) -> float | None:
    """The experiment's score; None where it has none by this metric."""
    task, name = target
    found = experiment.tasks.get(task, {}).get(name, {}).get("mean")
    return found if experiment.primary.get(task) == name and is_number(found) else None


def best(experiments: Sequence[Experiment], target: Target) -> Experiment | None:
    """The experiment of the best score, the first of equals; None where none has one."""
    scored = [experiment for experiment in experiments if mean(experiment, target) is not None]
    pick = max if metric(target[1]).higher_is_better else min
    return pick(scored, key=lambda experiment: mean(experiment, target), default=None)


def equals(experiment: Experiment, best: Experiment | None, target: Target) -> bool:
    """Whether the experiment's score is the best one as far as the table shows."""
    means = [mean(e, target) for e in (experiment, best) if e is not None]
    scale = metric(target[1]).scale
    return None not in means and len({number(mean * scale) for mean in means}) == 1


def score(experiment: Experiment, target: Target, best: bool, small: str = "") -> Cell:
    """The field of a table that shows an experiment's score; that of a grid's cell leads to its details."""
    (task, name), found = target, mean(experiment, target)
    if found is None:
        return Cell("–")
    how = metric(name)
    guessed = experiment.chance.get(task, {}).get(name)
    mark = "" if not is_number(guessed) or how.beats(found, guessed) else "°"
    link = experiment.name if experiment.is_cell else ""
    return Cell(mean_and_sd(experiment.tasks[task][name], how), best, mark, small, found, link)


def mean_and_sd(values: Mapping, how: Metric) -> str:
    """A score as the papers write it; without an SD where it is known to be of one value, whatever the file says."""
    mean, sd, folds = values.get("mean"), values.get("sd"), values.get("folds")
    if not is_number(mean):
        return "–"
    text = number(mean * how.scale)
    of_one = isinstance(folds, list) and sum(map(is_number, folds)) < 2
    return f"{text} ± {number(sd * how.scale)}" if is_number(sd) and not of_one else text


def chance(experiments: Sequence[Experiment], target: Target) -> Cell:
    """The chance score; a range where the experiments were not evaluated on the same utterances."""
    task, name = target
    found = [experiment.chance.get(task, {}).get(name) for experiment in experiments]
    written = sorted({round(chance * metric(name).scale, 2) for chance in found if is_number(chance)})
    return Cell("–".join(number(chance) for chance in (written[0], written[-1])[: len(written)]) if written else "–")


def encoder(experiment: Experiment) -> str:
    """What its section takes as the encoder of its views; of a verification, which has none, its model."""
    return str(experiment.config.get("encoder") or ("PLDA" if "verify" in experiment.config else "–"))


def encoders(experiments: Sequence[Experiment]) -> str:
    """Those of several experiments in a phrase."""
    found = list(dict.fromkeys(map(encoder, experiments)))
    return f"encoder{'s' if len(found) > 1 else ''} {', '.join(found)}"


def variants(cells: Sequence[Experiment]) -> dict[str, str]:
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
