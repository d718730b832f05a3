"""Layer poolings against each other (wavCSE, Table 2), and the best of them against plain models (Table 3).

Poolings are compared where nothing else differs between the experiments. The one that stands for them in the second
table is chosen by its validation loss, never by the scores that the table shows. Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from strata.pipeline.report import footnotes, score_cells, size_cells
from strata.pipeline.results import ranking, spreads, testsets
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.show.names import layer_ranges
from strata.pipeline.show.tables import Cell, Column, Table, is_number
from strata.trainers import setups

NAMES = {
    "weighted": "Weighted Average",
    "max": "Max",
    "mean": "Mean",
    "mixed": "Mixed",
    "gated": "Gated",
    "learned-norm": "Learned-Norm",
    "log-sum-exp": "Log-Sum-Exp",
    "smooth-maximum": "Smooth-Maximum",
    "auto": "Auto",
    "self-attention": "Self-Attention",
}
"""As the paper names them, in its order."""
APART = ("pooling", "grid", "final")
"""Fields in which experiments of one comparison may differ: what is compared, and what changes no score."""


@dataclass(frozen=True)
class Rivals:
    """Experiments that differ in their pooling alone."""

    title: str
    members: tuple[ExperimentResult, ...]
    """One for each pooling, in the paper's order."""
    others: tuple[ExperimentResult, ...]
    """The same configurations under other names, such as the one section whose final model is kept."""
    shared: str
    """What else they have in common, where it is not as by default."""


def tables(experiments: Sequence[ExperimentResult], texts: Collection[str] = ()) -> list[Table]:
    """Poolings against each other, then the best of them against plain models; none where there is no unified model.

    Args:
        experiments: all of the study.
        texts: the views that read texts.
    """
    rivals = compared(experiments)
    against = against_baselines(rivals, experiments, texts)
    return [*map(comparison, rivals), *([against] if against else [])]


def compared(experiments: Sequence[ExperimentResult]) -> list[Rivals]:
    """The unified models among these, by what they share; those that no other pooling can be held against left out."""
    groups: dict[tuple[str, ...], list[ExperimentResult]] = {}
    for experiment in filter(is_unified, experiments):
        config = ranking.flat({field: value for field, value in experiment.config.items() if field not in APART})
        shared = (*sorted(f"{field}={value}" for field, value in config.items()), *experiment.corpora)
        groups.setdefault(shared, []).append(experiment)
    varied = _varied([members[0] for members in groups.values()])
    several = [members for members in groups.values() if len({_pooling(member) for member in members}) > 1]
    return [_rivals(members, varied) for members in several]


def shown(experiments: Sequence[ExperimentResult]) -> set[str]:
    """Names of the cells of grids that the tables of poolings show in full, so that no other table has to."""
    names = {member.name for group in compared(experiments) for member in group.members}
    whole = {e.section for e in experiments} - {e.section for e in experiments if e.name not in names}
    return {e.name for e in experiments if e.is_cell and e.section in whole}


def is_unified(experiment: ExperimentResult) -> bool:
    """Whether it is wavCSE's model, whose shared network ends in one embedding."""
    return experiment.config.get("encoder") == "unified"


def comparison(rivals: Rivals) -> Table:
    """Poolings down, tasks and their mean across (Table 2)."""
    members = [spreads.over_seeds(member) for member in rivals.members]
    heads = [(Cell(NAMES.get(_pooling(member), _pooling(member))),) for member in members]
    shared = [f"All with {rivals.shared}."] if rivals.shared else []
    return _table(f"Layer poolings: {rivals.title}", (Column("pooling"),), heads, members, shared)


def against_baselines(
    rivals: Sequence[Rivals], experiments: Sequence[ExperimentResult], texts: Collection[str] = ()
) -> Table | None:
    """The unified model beside models of other encoders on the same tasks (Table 3); None where one side is missing.

    All plain models of one view stand here that can be held against it; what is left out is named below.

    Args:
        rivals: whose best pooling stands for each; where there are none, every unified model stands for itself.
        experiments: all of the study; those of several views, of a task that no unified model has, or of texts where
            it hears audio, are left out.
        texts: the views that read texts.
    """
    chosen, told = [], []
    for group in rivals:
        member, by = _best_pooling(group.members)
        chosen.append(member)
        told.append(by)
    chosen = chosen or [e for e in experiments if is_unified(e)]
    corpora = {e.corpora for e in chosen}
    tasks = {task for e in chosen for task in ranking.criteria([e])}
    kinds = {_reads_texts(e, texts) for e in chosen}
    near = [
        e
        for e in experiments
        if not is_unified(e) and e.corpora in corpora and not tasks.isdisjoint(ranking.criteria([e]))
    ]
    reasons = {e.name: _unlike(e, tasks, kinds, texts) for e in near}
    plain = [e for e in near if not reasons[e.name]]
    if not chosen or not plain:
        return None
    rows = [*ranking.by_setup(plain), *chosen]
    heads = [(Cell(_model(row), small=row.name), Cell(ranking.views(row)), Cell(_layers(row))) for row in rows]
    columns = (Column("model"), Column("view"), Column("layers"))
    notes = [f"The pooling of wavCSE is the one {by}." for by in dict.fromkeys(told)]
    if left_out := _by_reason(near, reasons):
        notes.append(f"Left out: {left_out}.")
    members = [spreads.over_seeds(row) for row in rows]
    return _table("The unified embedding against plain models on the same tasks", columns, heads, members, notes)


def _reads_texts(experiment: ExperimentResult, texts: Collection[str]) -> bool:
    return not set(texts).isdisjoint(experiment.views)


def _unlike(experiment: ExperimentResult, tasks: set, kinds: set[bool], texts: Collection[str]) -> str:
    """Why a model cannot be held against the unified ones; empty where it can."""
    if _reads_texts(experiment, texts) not in kinds:
        return "on texts" if _reads_texts(experiment, texts) else "on audio"
    if len(experiment.views) > 1:
        return "of several views"
    return "" if set(ranking.criteria([experiment])) <= tasks else "trained for other tasks too"


def _by_reason(experiments: Sequence[ExperimentResult], reasons: Mapping[str, str]) -> str:
    """What is left out and why, a grid by its section."""
    found: dict[str, dict[str, None]] = {}
    for experiment in experiments:
        if why := reasons[experiment.name]:
            found.setdefault(why, {}).setdefault(experiment.section)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in found.items())


def _table(
    caption: str,
    columns: tuple[Column, ...],
    heads: Sequence[tuple[Cell, ...]],
    members: Sequence[ExperimentResult],
    notes: Sequence[str] = (),
) -> Table:
    """Scores of experiments, each behind its head, and their mean where all tasks are scored alike."""
    criteria = ranking.criteria(members)
    best = {criterion: testsets.winners(members, criterion) for criterion in criteria}
    scored = [[score_cells.score(m, t, best[t][place]) for t in criteria] for place, m in enumerate(members)]
    heads = [(*head, size) for head, size in zip(heads, size_cells.sizes([[m] for m in members]), strict=True)]
    columns = (*columns, size_cells.COLUMN)
    foot = (Cell("chance"), *[Cell("")] * (len(columns) - 1), *(score_cells.chance(members, t) for t in criteria))
    headings = score_cells.headings(criteria)
    if len(criteria) > 1 and len({metric for _, metric in criteria}) == 1:
        how = ranking.metric(criteria[0][1])
        means = [spreads.mean_over_tasks(m) if len(m.tasks) == len(criteria) else {} for m in members]
        tops = _tops(members, means, how)
        for cells, member, mean in zip(scored, members, means, strict=True):
            shown = score_cells.mean_and_sd({"mean": mean.get("mean")}, how)
            best_of_all = shown in tops.get(testsets.folds_of(member), ())
            cells.append(Cell(score_cells.mean_and_sd(mean, how), best_of_all, value=mean.get("mean")))
        headings.append(score_cells.heading(criteria[0], "mean"))
        foot = (*foot, Cell(""))
    rows = tuple((*head, *cells) for head, cells in zip(heads, scored, strict=True))
    said = (*size_cells.notes(members), *footnotes.below(members, (cell for row in rows for cell in row)))
    how_often = f"Scores out of fold, {spreads.over(members)}."
    if len(set(map(testsets.folds_of, members))) > 1:
        how_often += " Not all were tested on the same folds."
    return Table(caption, (*columns, *headings), rows, foot=(foot,), notes=(how_often, *notes, *said))


def _tops(
    members: Sequence[ExperimentResult], means: Sequence[Mapping], how: ranking.Metric
) -> dict[Hashable, set[str]]:
    """By what they were tested on, the best mean as it is written; none where only one has a mean there."""
    found: dict[Hashable, list[float]] = {}
    for member, mean in zip(members, means, strict=True):
        if is_number(mean.get("mean")):
            found.setdefault(testsets.folds_of(member), []).append(mean["mean"])
    pick = max if how.higher_is_better else min
    return {
        folds: {score_cells.mean_and_sd({"mean": pick(known)}, how)} for folds, known in found.items() if len(known) > 1
    }


def _varied(experiments: Sequence[ExperimentResult]) -> list[str]:
    """The fields, apart from view and layers, in which unified models of the study differ beside their poolings."""
    configs = [_told(experiment) for experiment in experiments]
    fields = dict.fromkeys(field for config in configs for field in config if field not in ("views", "layers"))
    return [field for field in fields if len({config.get(field) for config in configs}) > 1]


def _title(experiment: ExperimentResult, varied: Sequence[str]) -> str:
    """View and layers, and whatever else tells a comparison from the rest of the study."""
    config = _told(experiment)
    apart = "".join(f", {field} {config[field]}" for field in varied if config.get(field))
    return f"view {ranking.views(experiment)}, layers {_layers(experiment)}{apart}"


def _shared(experiment: ExperimentResult, told: Sequence[str]) -> str:
    """What its section asks for other than by default; what the title tells, and the tasks of the columns, left out."""
    from strata.trainers import spec

    usual = _leaves(spec.Experiment.model_construct().model_dump(mode="json"))
    asked = {field: value for field, value in _told(experiment).items() if value and value != usual.get(field)}
    known = {"encoder", "views", "layers", "tasks", *told}
    return ", ".join(f"{field} {value}" for field, value in asked.items() if field not in known)


def _told(experiment: ExperimentResult) -> dict[str, str]:
    """What a section asks for beside its pooling, lists without brackets."""
    config = {**experiment.config, "corpora": " + ".join(experiment.corpora)}
    return _leaves({field: value for field, value in config.items() if field not in APART})


def _leaves(config: Mapping) -> dict[str, str]:
    """All values of a section as a reader would write them, by their dotted names."""
    return {field: value.strip("[]").replace("'", "") for field, value in ranking.flat(config).items()}


def _rivals(members: Sequence[ExperimentResult], varied: Sequence[str]) -> Rivals:
    """Of several with one pooling, that of the section which has most of the others too."""
    sections = [member.section for member in members]
    order = sorted(members, key=lambda member: -sections.count(member.section))
    picked: dict[str, ExperimentResult] = {}
    for member in order:
        picked.setdefault(_pooling(member), member)
    known = [picked[pooling] for pooling in NAMES if pooling in picked]
    known += [member for pooling, member in picked.items() if pooling not in NAMES]
    names = {member.name for member in known}
    others = tuple(member for member in members if member.name not in names)
    return Rivals(_title(members[0], varied), tuple(known), others, _shared(members[0], varied))


def _best_pooling(members: Sequence[ExperimentResult]) -> tuple[ExperimentResult, str]:
    """The one of the lowest validation loss, and by what it was chosen; of other folds than most, none."""
    folds = [testsets.folds_of(member) for member in members]
    most = max(folds, key=folds.count)
    members = [member for member, own in zip(members, folds, strict=True) if own == most]
    losses = [_valid_loss(member) for member in members]
    if None not in losses:
        return members[int(np.argmin(losses))], "of the lowest validation loss"
    criteria = ranking.criteria(members)
    best = max(members, key=lambda m: sum(ranking.equals(m, ranking.best(members, t), t) for t in criteria))
    return best, "that is best on most tasks by its test scores, an optimistic choice: validation losses are not known"


def _valid_loss(member: ExperimentResult) -> float | None:
    """Mean over folds and seeds of the lowest validation loss; None where its curves are not there."""
    try:
        curves = member.with_tables().curves if member.curves is None else member.curves
        lowest = curves.groupby([key for key in ("seed", "fold", "task_group") if key in curves])["valid_loss"].min()
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    found = float(lowest.mean())
    return found if np.isfinite(found) else None


def _pooling(experiment: ExperimentResult) -> str:
    return str(experiment.config.get("pooling", ""))


def _model(experiment: ExperimentResult) -> str:
    if is_unified(experiment):
        return setups.named(setups.WAVCSE, NAMES.get(_pooling(experiment), _pooling(experiment)))
    encoder = experiment.config.get("encoder")
    return f"{experiment.setup.replace('->', '→')}, {encoder}" if encoder else experiment.setup


def _layers(experiment: ExperimentResult) -> str:
    """Those that were read, where the result tells them; else as its section asks for them."""
    view = experiment.views[0] if experiment.views else ""
    if found := experiment.layers.get(view):
        return layer_ranges(found)
    asked = experiment.config.get("layers", "last")
    return asked if isinstance(asked, str) else layer_ranges(map(str, asked))
