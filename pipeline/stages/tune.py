"""`strata tune NAME…`: a search over fields of an experiment → results/tune/<name>/tune.json.

Every trial is noted in `trials.jsonl` beside it as soon as it is over. A search that is killed goes on there, with the
trial that it was busy with; one that is given more `trials` goes on from those it has. What is found is said, and
written nowhere else: to take it over into params.yaml is for whoever reads it.

The first fold alone is searched, and its test part is asked once, of the best. With k folds the tests of the others
contain utterances by which the best was found: of the experiment that it becomes, that one test is the honest figure
(or `folds: {given: …}`, whose only test it then is).
"""

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from strata.pipeline.errors import for_each
from strata.pipeline.progress import bar, counted, say
from strata.pipeline.results.searches import FILE, SearchResult, TrialResult, write_search
from strata.pipeline.stages.identity import identity_of, up_to_date
from strata.pipeline.stages.journal import Journal
from strata.pipeline.stages.provenance import provenance_of
from strata.pipeline.stages.workers import workers_for
from strata.pipeline.study import options, yaml12
from strata.pipeline.study.folder import Study
from strata.pipeline.study.layers import layer_names
from strata.pipeline.study.sources import Sources, shape_note
from strata.store.lock import exclusive
from strata.trainers import revisions
from strata.trainers.inputs.data import Dataset
from strata.trainers.search.space import Space
from strata.trainers.spec import Experiment, Task

if TYPE_CHECKING:
    from strata.trainers.search.tuning import SearchOutcome, Trial

OBJECTIVE = "mean validation score over the tasks"


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    options.add_stage(parser, run, "NAME", "strata tune learning")


def run(study: Study, names: list[str]) -> None:
    """Runs the named searches (all where none is named) whose inputs have changed, or that are to have more trials.

    Raises:
        StageError: one could not be run; the others have been.
    """
    with Sources(study) as sources:
        for_each(study.chosen("tune", names), lambda name: _tune(study, sources, name), "search")


def _tune(study: Study, sources: Sources, name: str) -> None:
    space = study.params.space(name)
    how, base = space.how, space.base
    folder = study.results("tune", name)
    tasks = {task: study.params.tasks[task] for task in base.tasks}
    table, views = sources.select(space.views, tasks, base.folds, base.corpora)

    layers = {
        (view, str(wanted)): layer_names(views[view].store, wanted) for wanted in space.layers for view in space.views
    }
    parts = revisions.of(space, tasks)

    def identity(**search: object) -> str:
        # A key that the base does not read may be read by a trial: each of the kinds that there may be counts.
        kinds = space.variants(revisions.DECIDING)
        experiments = [kind.model_copy(update={"final": False}).resolved() for kind in kinds]
        seed = {"seed": 0} if how.search == "grid" else {}  # which draws nothing
        resolved = {"tune": how.resolved() | seed | search, "experiments": experiments}
        names = sorted([view, wanted, names] for (view, wanted), names in layers.items())
        return identity_of(resolved, tasks, base.folds, table, views, parts, more=[names, list(how.space)])

    cell = identity(trials=space.num_trials)
    config = {"tune": how.model_dump(mode="json"), "experiment": base.model_dump(mode="json")}
    if up_to_date(study, folder / FILE, cell, config):
        say(f"{name}: up to date")
        return

    def dataset(experiment: Experiment) -> Dataset:
        used = {view: layers[view, str(experiment.layers)] for view in experiment.views}
        return sources.dataset(table, {view: views[view] for view in used}, used)

    provenance = provenance_of(study, views)
    provenance["versions"]["optuna"] = version("optuna")
    of_a_trial = identity(trials=1, experiment="")
    with exclusive(folder / "tune"), Journal(folder / "trials.jsonl", of_a_trial, name) as journal:
        outcome = _searched(study, name, tasks, dataset, journal)
        found = SearchResult(
            name=name,
            experiment=how.experiment,
            way=how.search,
            space=how.model_dump(mode="json")["space"],
            objective=OBJECTIVE,
            highest_first=True,
            **_found(outcome),
            config=config,
            seconds=round(outcome.seconds, 3),
            layers={},
            provenance=provenance,
            identity=cell,
        )
        write_search(folder, found)
    _tell(name, space, outcome)


def _searched(
    study: Study, name: str, tasks: Mapping[str, Task], dataset: Callable[[Experiment], Dataset], journal: Journal
) -> "SearchOutcome":
    """Goes on with a search behind the trials that its journal has; a line tells of every further one."""
    from strata.trainers.search import tuning  # torch and Optuna, only now that there is something to train

    space = study.params.space(name)
    how, total = space.how, space.num_trials
    done = [tuning.Trial(**step) for step in journal.steps[:total]]
    going_on = f"; {len(done)} are there" if done else ""
    say(f"{name}: {counted(total, 'trial')} of {how.experiment}, {shape_note(dataset(space.base))}{going_on}")
    if how.prune and not tuning.prunes(space):
        say(f"{name}: with a model per task no one loss tells of a trial; none is pruned")
    with bar(total, "trials", name) as progress:
        progress.update(len(done))
        best = max((trial.value for trial in done if trial.state == "complete"), default=None)

        def note(trial: "Trial") -> None:
            nonlocal best
            journal.note(vars(trial))
            progress.update()
            is_better = trial.state == "complete" and (best is None or trial.value > best)
            best = trial.value if is_better else best
            say(f"{name}: trial {trial.number + 1} of {total}: {_result(trial, is_better)}")

        try:
            return tuning.search(space, tasks, dataset, done, note, workers_for(study), study.params.train.device)
        except tuning.NothingFound:  # nothing to go on from: another run shall try, not repeat this line
            journal.path.unlink()
            raise


def _found(outcome: "SearchOutcome") -> dict[str, object]:
    """What was found, as the results have it."""
    start = outcome.start
    return {
        "trials": tuple(
            TrialResult(**{key: value for key, value in vars(trial).items() if key != "losses"})
            for trial in outcome.trials
        ),
        "best": outcome.best.number,
        "start": start and start.value,
        "start_params": start and start.params,
        "test": {"tasks": outcome.test, "mean": outcome.test_mean},
        "importance": outcome.importance,
    }


def _tell(name: str, space: Space, outcome: "SearchOutcome") -> None:
    best, start, base = outcome.best, outcome.start, space.base
    as_it_stands = ", its present values lie outside the space and were not tried"
    if start is not None:
        as_it_stands = "" if start.value is None else f", {start.value:.4f} as it stands"
    say(
        f"{name}: best is trial {best.number + 1} of {len(outcome.trials)}: {best.value:.4f} on validation data"
        f"{as_it_stands}; {outcome.test_mean:.4f} on the test data of this fold ({outcome.seconds:.1f} s)"
    )
    if not base.folds.given:
        others = "other fold tests" if base.folds.k == 2 else f"other {base.folds.k - 1} folds test"
        say(
            f"{name}: that test is the honest one; the {others} utterances that the search has seen "
            "(`folds: {given: …}` names a split that all keep to)"
        )
    if start is not None and start.value is not None and best.value <= start.value:
        say(f"{name}: nothing was better than experiments.{space.how.experiment} as it stands")
        return
    section, takeover = f"experiments.{space.how.experiment}", space.takeover(best.params)
    fragment = yaml12.dump(takeover.fragment, flow=True).strip()
    say(f"{name}: to take it, write into {section}: {fragment}")
    if takeover.drop:
        say(f"{name}: and drop from {section}, where nothing reads it any more: {', '.join(takeover.drop)}")
    if takeover.drop_with_search:
        only = ", ".join(takeover.drop_with_search)
        say(f"{name}: read by other trials alone, so to be dropped with tune.{name}, should that go: {only}")


def _result(trial: "Trial", is_better: bool) -> str:
    """What came of a trial; with its values, where it is better than all before."""
    if trial.state != "complete":
        return f"{trial.state}: {trial.reason}"
    return f"{trial.value:.4f}" + (f" with {_described(trial.params)}" if is_better else ", not better")


def _described(params: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {f'{value:.4g}' if isinstance(value, float) else value}" for key, value in params.items())
