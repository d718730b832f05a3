"""`strata train EXPERIMENT…`: cached layers and labels → results/<experiment>/: scores, predictions, a model.

A grid's cells lie below their experiment, `results/<experiment>/<cell>/`, each complete in itself and trained when what
it follows from has changed. The models of all cells are trained side by side, in the order of the cells: see
`stages.cells`.
"""

from argparse import ArgumentParser
from collections.abc import Sequence

from strata.pipeline.errors import Errors
from strata.pipeline.progress import counted, say
from strata.pipeline.stages.cells import Cell, locked, train
from strata.pipeline.study import options
from strata.pipeline.study.folder import Study
from strata.pipeline.study.sources import Sources


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    options.add_stage(parser, run, "EXPERIMENT", "strata train tango")


def run(study: Study, names: list[str]) -> None:
    """Trains the named experiments (all where none is named), and of grids the cells, whose inputs have changed.

    Raises:
        StageError: some could not be trained; the others have been.
    """
    files = {name: study.results(name) / "train" for name in study.chosen("experiments", names)}
    with locked("experiment", files) as (free, errors):
        _run(study, free, errors)


def _run(study: Study, names: Sequence[str], errors: Errors) -> None:
    sources = Sources(study)
    todo: list[Cell] = []
    for name in names:
        cells = study.params.cells(name)
        found, new = [], []
        for cell, experiment in cells.items():
            title = f"{name}/{cell}" if cell else name
            with errors.of(f"experiment {title}"):
                values = dict(zip(study.params.experiments[name].grid, cell.split("/"), strict=False))
                found.append(Cell.of(sources, title, values, experiment))
                if not found[-1].is_up_to_date(study):
                    new.append(found[-1])
        if study.params.experiments[name].grid and found:
            say(
                f"{name}: {len(new)} of {counted(len(cells), 'cell')} to train"
                if new
                else f"{name}: {counted(len(found), 'cell')} up to date"
            )
        elif found and not new:
            say(f"{name}: up to date")
        todo += new
    if todo:
        train(study, sources, todo, errors)
