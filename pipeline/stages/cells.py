"""Cells: experiments with their data, trained side by side, each one's results written as soon as they are there.

What `strata train` and `strata downstream` have in common; no stage of its own. A cell is written when its last model
is there; until then what its finished models answered lies beside them, so that a run that is killed loses the models
that were in training.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pandas as pd

from strata.pipeline.errors import Errors
from strata.pipeline.files import write_table
from strata.pipeline.progress import bar, say
from strata.pipeline.results.experiments import CURVES, FILE, PREDICTIONS, write_metrics
from strata.pipeline.stages.identity import identity_of, up_to_date
from strata.pipeline.stages.provenance import provenance_of
from strata.pipeline.stages.workers import workers_for
from strata.pipeline.study import segments
from strata.pipeline.study.embeddings import SEEN
from strata.pipeline.study.folder import Study
from strata.pipeline.study.layers import layer_names
from strata.pipeline.study.manifest import corpus_of, synthetic_corpora
from strata.pipeline.study.sources import Cached, Sources, shape_note
from strata.store.lock import exclusive
from strata.trainers import revisions
from strata.trainers.spec import Experiment, Task

TABLES = (PREDICTIONS, CURVES)
MODEL = ("model/config.json", "model/model.safetensors", SEEN)
"""What stands beside metrics.json."""
KEPT = "trained.tmp"
"""Folder of what the finished models of a cell answered, until it is written; DVC leaves it alone."""


@dataclass(frozen=True)
class Cell:
    """One experiment of params.yaml, or one of those that a grid stands for, with its data."""

    title: str
    """`<experiment>`, or `<experiment>/<cell>`."""
    grid: Mapping[str, str]
    """For each field of the grid the part of the cell's name that tells its value."""
    experiment: Experiment
    tasks: Mapping[str, Task]
    table: pd.DataFrame
    views: Mapping[str, Cached]
    layers: Mapping[str, Sequence[str]]
    identity: str
    """A hash of all that its results follow from."""

    @classmethod
    def of(cls, sources: Sources, title: str, grid: Mapping[str, str], experiment: Experiment) -> "Cell":
        """Finds the utterances and their labels; reads no features.

        Raises:
            ValueError, OSError: no utterances, an absent or broken store, a layer that a view does not have.
        """
        tasks = {task: sources.study.params.tasks[task] for task in experiment.tasks}
        table, views = sources.select(experiment.views, tasks, experiment.folds, experiment.corpora)
        layers = {view: layer_names(cached.store, experiment.layers) for view, cached in views.items()}
        section, parts = experiment.resolved() | {"layers": layers}, revisions.of(experiment, tasks)
        seen = sources.seen_by(views)
        return cls(
            title=title,
            grid=grid,
            experiment=experiment,
            tasks=tasks,
            table=table,
            views=views,
            layers=layers,
            identity=identity_of(section, tasks, experiment.folds, table, views, parts, seen),
        )

    def folder(self, study: Study) -> Path:
        """Where its results lie."""
        return study.results(*self.title.split("/"))

    def is_up_to_date(self, study: Study) -> bool:
        """Whether its results are there, all of them, and follow from what there is now."""
        folder, wanted = self.folder(study), (*TABLES, *(MODEL if self.experiment.final else ()))
        there = all((folder / f).exists() for f in wanted)
        return there and up_to_date(study, folder / FILE, self.identity, self.config)

    def forget_kept(self, study: Study) -> None:
        """Removes what its models answered, which nobody needs once its results are there."""
        shutil.rmtree(self.folder(study) / KEPT, ignore_errors=True)

    @property
    def config(self) -> dict[str, object]:
        """The section as it is written down beside the results."""
        return self.experiment.model_dump(mode="json")


@contextmanager
def locked(what: str, files: Mapping[str, Path]) -> Iterator[tuple[list[str], Errors]]:
    """Keeps other runs from what a run writes: two would mix their files.

    Args:
        what: stands in a line about one of them, before its name.
        files: for each name what to lock.

    Yields:
        the names that nobody else is busy with, and the errors of all: those of others, and what is added.

    Raises:
        StageError: at the end, where there are errors.
    """
    errors, free = Errors(), []
    with ExitStack() as locks:
        for name, file in files.items():
            with errors.of(f"{what} {name}"):
                locks.enter_context(exclusive(file))
                free.append(name)
        yield free, errors
    errors.raise_if_any()


def train(study: Study, sources: Sources, cells: Sequence[Cell], errors: Errors) -> None:
    """Trains cells side by side and writes each one's results as soon as they are there."""
    from strata.trainers.evaluation import experiment as trainer  # torch, only now that there is something to train
    from strata.trainers.evaluation.kept import Kept

    say_once = cache(say)

    def plan(cell: Cell):
        data = sources.dataset(cell.table, cell.views, cell.layers)
        if not cell.grid:
            say(f"{cell.title} ({cell.experiment.setup}): {shape_note(data)}")
        planned = trainer.plan(cell.experiment, cell.tasks, data, study.params.train.device)
        return replace(planned, kept=Kept(cell.folder(study) / KEPT, cell.identity, say_once))

    started, done = time.monotonic(), 0
    total = sum(trainer.num_models(cell.experiment) for cell in cells)
    title = cells[0].title if len(cells) == 1 else f"{len(cells)} experiments"
    with bar(total, "models", title) as progress:
        plans = [lambda cell=cell: plan(cell) for cell in cells]
        outcomes = trainer.run_all(plans, progress.update, workers_for(study, total))
        for cell, outcome in zip(cells, outcomes, strict=True):
            with errors.of(f"experiment {cell.title}"):
                if isinstance(outcome, Exception):
                    raise outcome
                _write(study, cell, outcome)
                done += 1
    hours = (time.monotonic() - started) / 3600
    if done > 1:
        say(f"{done} experiments in {hours * 60:.1f} min, {done / hours:,.0f} an hour")


def _write(study: Study, cell: Cell, outcome) -> None:
    folder = cell.folder(study)
    provenance = provenance_of(study, cell.views)
    # metrics.json is written last: it says that the rest is there and belongs together.
    (folder / FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / "model", ignore_errors=True)
    (folder / SEEN).unlink(missing_ok=True)
    write_table(folder / PREDICTIONS, outcome.predictions)
    write_table(folder / CURVES, outcome.curves)
    if outcome.predictor:
        sections = {view: study.params.views[view].model_dump(mode="json") for view in cell.views}
        synthetic = synthetic_corpora(study, cell.table)
        extra = {"views": sections, "layers": cell.layers, "synthetic_corpora": synthetic, "provenance": provenance}
        outcome.predictor.save(folder / "model", extra)
        heard = cell.table[cell.table["content"].isin(outcome.seen)].drop_duplicates("content")
        heard = pd.concat([heard["content"], segments.spans(heard)], axis=1)
        write_table(folder / SEEN, heard.sort_values("content", ignore_index=True))
    write_metrics(
        folder,
        cell.title,
        outcome.metrics,
        corpora=corpus_of(cell.table).unique(),
        layers=cell.layers,
        config=cell.config,
        seconds=outcome.seconds,
        provenance=provenance,
        identity=cell.identity,
        grid=cell.grid,
    )
    cell.forget_kept(study)
    scores = ", ".join(
        f"{task} {metric} {outcome.metrics['tasks'][task][metric]['mean']:.3f}"
        for task, metric in outcome.metrics["primary"].items()
    )
    for note in outcome.notes:
        say(f"{cell.title}: {note}")
    say(f"{cell.title}: {scores} ({outcome.seconds:.1f} s)")
