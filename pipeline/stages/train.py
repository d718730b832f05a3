"""`strata train EXPERIMENT…`: cached layers and labels → results/<experiment>/: scores, predictions, a model.

A grid's cells lie below their experiment, `results/<experiment>/<cell>/`, each complete in itself and trained when what
it follows from has changed. The models of all cells are trained side by side, in the order of the cells: see
`stages.cells`.
"""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import TYPE_CHECKING

from strata.pipeline.errors import Errors
from strata.pipeline.progress import counted, say
from strata.pipeline.stages import unchanged
from strata.pipeline.study import options
from strata.pipeline.study.folder import Study

if TYPE_CHECKING:
    from strata.pipeline.study.sources import Sources


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    options.add_stage(parser, run, "EXPERIMENT", "strata train tango")


def run(study: Study, names: list[str]) -> None:
    """Trains the named experiments (all where none is named), and of grids the cells, whose inputs have changed.

    Raises:
        StageError: some could not be trained; the others have been.
    """
    made_of = {name: unchanged.inputs(study, name) for name in study.chosen("experiments", names)}
    todo = []
    for name, inputs in made_of.items():
        if line := unchanged.line(study, name, inputs):
            say(line)
        else:
            todo.append(name)
    if todo:
        from strata.pipeline.stages.cells import locked  # pandas, only now that there is something to look at
        from strata.pipeline.study.sources import Sources

        files = {name: study.results(name) / "train" for name in todo}
        with locked("experiment", files) as (free, errors), Sources(study) as sources:
            _run(study, sources, {name: made_of[name] for name in free}, errors)


def _run(study: Study, sources: "Sources", made_of: Mapping[str, str | None], errors: Errors) -> None:
    from strata.pipeline.stages.cells import Cell, train

    todo: list[Cell] = []
    for name in made_of:
        cells = study.params.cells(name)
        found, new = [], []
        for cell, experiment in cells.items():
            title = f"{name}/{cell}" if cell else name
            with errors.of(f"experiment {title}"):
                values = dict(zip(study.params.experiments[name].grid, cell.split("/"), strict=False))
                found.append(Cell.of(sources, title, values, experiment))
                if found[-1].is_up_to_date(study):
                    found[-1].forget_kept(study)
                else:
                    new.append(found[-1])
        grid = study.params.experiments[name].grid
        if found and not new:
            line = f"{name}: {counted(len(found), 'cell')} up to date" if grid else f"{name}: up to date"
            say(line)
            if len(found) == len(cells) and not sources.has_said:
                unchanged.note(study, name, made_of[name], line)
        elif found and grid:
            say(f"{name}: {len(new)} of {counted(len(cells), 'cell')} to train")
        todo += new
    if todo:
        train(study, sources, todo, errors)
