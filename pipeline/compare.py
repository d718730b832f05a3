"""`strata compare EXPERIMENT EXPERIMENT…`: is one experiment better than another, fold by fold?

Reads results/<experiment>/metrics.json; trains nothing. The statistics are those of `trainers.comparison`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.errors import StageError
from pipeline.progress import say
from pipeline.report.ranking import metric
from pipeline.report.tables import Cell, Column, Table, number, plain
from pipeline.study import Study
from trainers.comparison import compare, holm
from trainers.data import TrainingError


def run(study: Study, names: Sequence[str], as_json: bool = False) -> None:
    """Prints how each further experiment differs from the first, task by task.

    Args:
        study: whose results are read.
        names: experiments, or cells of grids such as `pairs/demo/wavlm+xvector/ot`; the name of a grid, or the start
            of a cell's name up to a slash, stands for all cells below it.
        as_json: JSON instead of a table.

    Raises:
        StageError: fewer than two experiments, or one without results.
    """
    first, *others = dict.fromkeys(found for name in names for found in _below(study, name))
    if not others:
        raise StageError("a comparison takes two experiments or more")
    rows, refused = [], []
    for other in others:
        try:
            found = compare(_read(first), _read(other))
        except TrainingError as error:
            refused.append(str(error))
            continue
        for task, (measure, paired) in found.items():
            rows.append({"experiment": _title(study, other), "task": task, "metric": measure, **asdict(paired)})
    if not rows:
        raise StageError(refused[0])
    for line in refused:
        say(f"left out: {line}")
    for row, corrected in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = corrected
    title = _title(study, first)
    print(json.dumps({"first": title, "comparisons": rows}) if as_json else plain(_table(title, rows)))


def _below(study: Study, name: str) -> list[Path]:
    """The metrics files that a name stands for."""
    folder = study.results(*name.split("/"))
    inside = folder.resolve().is_relative_to(study.results().resolve())
    if inside and (folder / "metrics.json").exists():
        return [folder / "metrics.json"]
    found = sorted(folder.rglob("metrics.json")) if inside else []
    if not found:
        raise StageError(f"no results of {name!r} below {study.results()}; run `strata train {name.split('/')[0]}`")
    return found


def _read(path: Path) -> dict:
    metrics = json.loads(path.read_text())
    if not isinstance(metrics.get("folds"), dict):
        raise StageError(f"{path} was made by an earlier version; run `strata train` again")
    return metrics


def _title(study: Study, path: Path) -> str:
    return path.parent.relative_to(study.results()).as_posix()


def _table(first: str, rows: Sequence[dict]) -> Table:
    columns = (
        Column("experiment"),
        Column("task"),
        Column("metric"),
        Column("difference", numeric=True),
        Column("effect d", numeric=True),
        Column("p", numeric=True),
        Column("p, Holm", numeric=True),
    )
    cells = []
    for row in rows:
        how = metric(row["metric"])
        difference = f"{row['difference'] * how.scale:+.2f} ± {number(row['sd'] * how.scale)}"
        figures = (number(row["effect"]), number(row["p_value"], 4), number(row["p_holm"], 4))
        cells.append(tuple(map(Cell, (row["experiment"], row["task"], how.heading, difference, *figures))))
    notes = (
        f"Difference: the experiment minus {first}, mean ± SD over {rows[0]['num_folds']} folds (seeds averaged).",
        "p: two-sided t-test, its variance corrected for the training data that folds share (Nadeau & Bengio 2003);",
        f"Holm: corrected for the {len(rows)} comparisons of this table.",
    )
    return Table(f"Compared with {first}, on the same folds", columns, tuple(cells), notes=notes)
