"""`strata compare EXPERIMENT EXPERIMENT…`: is one experiment better than another, fold by fold?

Reads results/<experiment>/metrics.json; trains nothing. The statistics are those of `trainers.evaluation.comparison`.
"""

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from strata.pipeline.errors import StageError
from strata.pipeline.progress import say
from strata.pipeline.results.experiments import FILE, ExperimentResult, read_metrics
from strata.pipeline.results.ranking import metric
from strata.pipeline.results.reading import BROKEN
from strata.pipeline.show.tables import Cell, Column, Table, number, plain
from strata.pipeline.study import options
from strata.pipeline.study.folder import Study
from strata.trainers.evaluation.comparison import compare, holm
from strata.trainers.inputs.data import TrainingError
from strata.trainers.spec import Experiment


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    parser.description = (
        "How each further experiment differs from the first: mean difference over the folds, effect size, p value, and "
        "the p value corrected for the number of comparisons."
    )
    parser.epilog = "example: strata compare svmt/demo/wavlm pairs/demo/wavlm+x-vector"
    options.add_study(parser)
    parser.add_argument(
        "names", nargs="+", metavar="EXPERIMENT", help="as its folder below results/; a grid's name means all its cells"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(call=lambda given: run(options.study_of(given), given.names, given.json))


def run(study: Study, names: Sequence[str], as_json: bool = False) -> None:
    """Prints how each further experiment differs from the first, task by task.

    Args:
        study: whose results are read.
        names: experiments, or cells of grids such as `pairs/demo/wavlm+xvector/ot`; the name of a grid, or the start
            of a cell's name up to a slash, stands for all of its cells.
        as_json: JSON instead of a table.

    Raises:
        StageError: fewer than two experiments, or one without results.
    """
    cells = {name: study.params.cells(name) for name in study.chosen("experiments", [n.split("/")[0] for n in names])}
    first, *others = dict.fromkeys(found for name in names for found in _meant(cells, name))
    if not others:
        raise StageError("a comparison takes two experiments or more")
    reference = _read(study, cells, first)
    rows, refused = [], []
    for other in others:
        try:
            result = _read(study, cells, other)
            found = compare(reference.compared, result.compared)
        except TrainingError as error:
            refused.append(str(error))
            continue
        for task, (measure, paired) in found.items():
            about = {"experiment": other, "encoder": result.config.get("encoder"), "task": task, "metric": measure}
            tested = result.num_tested.get(task, result.num_utterances)
            rows.append({**about, "num_utterances": tested, **asdict(paired)})
    if not rows:
        raise StageError(refused[0])
    for line in refused:
        say(f"left out: {line}")
    for row, corrected in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = corrected
    if as_json:
        print(json.dumps({"first": first, "comparisons": rows}))
    else:
        print(plain(_table(f"{first} (encoder {reference.config.get('encoder')})", rows)))


def _meant(cells: Mapping[str, Mapping[str, Experiment]], name: str) -> list[str]:
    """The experiments and cells of params.yaml that a name stands for."""
    experiment = name.split("/")[0]
    titles = [f"{experiment}/{cell}".rstrip("/") for cell in cells[experiment]]
    found = [title for title in titles if title == name or title.startswith(f"{name.rstrip('/')}/")]
    if not found:
        raise StageError(f"experiments.{experiment} has no cell {name!r}; it has {', '.join(titles[:3])}, …")
    return found


def _read(study: Study, cells: Mapping[str, Mapping[str, Experiment]], title: str) -> ExperimentResult:
    """An experiment's scores.

    Raises:
        TrainingError: there are none, or they were made from another section of params.yaml.
    """
    experiment, _, cell = title.partition("/")
    path = study.results(*title.split("/"), FILE)
    again = f"run `strata train {experiment}`"
    try:
        result = read_metrics(path, title, experiment)
    except FileNotFoundError:
        raise TrainingError(f"{title} has no results yet; {again}") from None
    except BROKEN:
        raise TrainingError(f"{path} cannot be read; remove it, and {again}") from None
    if result.config != cells[experiment][cell].model_dump(mode="json") or not result.folds:
        raise TrainingError(f"{title} was trained from another section of params.yaml; {again}")
    return result


def _table(first: str, rows: Sequence[dict]) -> Table:
    columns = (
        Column("experiment"),
        Column("encoder"),
        Column("task"),
        Column("utterances", numeric=True),
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
        about = (row["experiment"], str(row["encoder"]), row["task"], number(row["num_utterances"], 0), how.heading)
        cells.append(tuple(map(Cell, (*about, difference, *figures))))
    folds = "–".join(map(str, sorted({row["num_folds"] for row in rows})))
    notes = (
        f"Difference: the experiment minus {first}, mean ± SD over {folds} folds (seeds averaged);",
        "for errors such as RMSE (↓) a negative one is the better. d: in units of the SD.",
        "p: two-sided t-test, its variance corrected for the training data that folds share (Nadeau & Bengio 2003);",
        f"Holm: corrected for the {len(rows)} comparisons of this table.",
    )
    return Table(f"Compared with {first}, on the same folds", columns, tuple(cells), notes=notes)
