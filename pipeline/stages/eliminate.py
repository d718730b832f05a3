"""`strata eliminate NAME…`: all cached layers of one view → results/eliminate/<name>/elimination.json.

Every round is noted in `rounds.jsonl` beside it as soon as its models are trained, those of all folds and seeds, so
that a killed elimination goes on there; when all is done the notes have done their service. `strata layers` reads the
outcome, and may narrow the view to the layers kept: `written.json` then says so, and that there is nothing left to
eliminate.
"""

import time
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from strata.extractors.view import parse
from strata.pipeline.errors import for_each
from strata.pipeline.progress import bar, say
from strata.pipeline.results.eliminations import (
    FILE,
    EliminationResult,
    Nested,
    RoundResult,
    Trail,
    read_narrowed,
    write_elimination,
)
from strata.pipeline.stages.identity import identity_of, up_to_date
from strata.pipeline.stages.journal import Journal
from strata.pipeline.stages.provenance import provenance_of
from strata.pipeline.stages.workers import workers_for
from strata.pipeline.study import options
from strata.pipeline.study.folder import Study
from strata.pipeline.study.layers import layer_names
from strata.pipeline.study.sources import Sources, shape_note
from strata.store.lock import exclusive
from strata.trainers import revisions
from strata.trainers.spec import Elimination

if TYPE_CHECKING:
    from strata.trainers.search.elimination import LayerElimination, Round
    from strata.trainers.search.rounds import Eliminations, Key


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    options.add_stage(parser, run, "NAME", "strata eliminate wavlm")


def run(study: Study, names: list[str]) -> None:
    """Runs the named eliminations (all where none is named) whose inputs have changed.

    Raises:
        StageError: one could not be run; the others have been.
    """
    with Sources(study) as sources:
        for_each(study.chosen("eliminate", names), lambda name: _eliminate(study, sources, name), "elimination")


def _eliminate(study: Study, sources: Sources, name: str) -> None:
    section = study.params.eliminate[name]
    folder = study.results("eliminate", name)
    if _is_written(study, folder, name):
        say(f"{name}: up to date; view {section.view} has been narrowed to the layers that it kept")
        return
    tasks = {task: study.params.tasks[task] for task in section.tasks}
    table, views = sources.select([section.view], tasks, section.folds, section.corpora)
    layers, config = layer_names(views[section.view].store, "all"), section.model_dump(mode="json")
    resolved, parts = section.resolved(), revisions.of(section, tasks)
    cell = identity_of(resolved | {"layers": layers}, tasks, section.folds, table, views, parts)
    if up_to_date(study, folder / FILE, cell, config):
        say(f"{name}: up to date")
        return
    from strata.trainers.folds.shared import division
    from strata.trainers.search import rounds  # torch, only now that there is something to train
    from strata.trainers.search.elimination import Round

    data = sources.dataset(table, views, {section.view: layers})
    provenance = provenance_of(study, views)
    with exclusive(folder / "eliminate"), Journal(folder / "rounds.jsonl", cell, name) as journal:
        total = rounds.num_rounds(section, len(layers))
        done = {rounds.Key(**step["key"]): Round(**step["found"]) for step in journal.steps}
        going_on = f"; {len(done)} of {total} rounds are there" if done else ""
        say(f"{name}: {shape_note(data)}{going_on}")
        started = time.monotonic()
        with bar(total, "rounds", name) as progress:
            progress.update(len(done))

            def note(key: "Key", found: "Round") -> None:
                journal.note({"key": vars(key), "found": vars(found)})
                progress.update()

            outcome = rounds.eliminate(
                section, tasks, data, layers, done, note, workers_for(study), study.params.train.device
            )
        seconds = time.monotonic() - started
        found = _found(outcome)
        write_elimination(
            EliminationResult(
                name,
                section.view,
                tuple(section.tasks),
                **found,
                config=config,
                seconds=round(seconds, 3),
                provenance=provenance,
                identity=cell,
                resolved=resolved,
                folder=folder,
            )
        )
        journal.path.unlink()
    for doubt in division(data, section.folds).notes:
        say(f"{name}: {doubt}")
    chosen = f" with pooling {outcome.pooling}" if len(section.poolings) > 1 else ""
    kept = ", ".join(outcome.chosen.kept_)
    count = len(outcome.chosen.kept_)
    say(f"{name}: keeps layers {kept}: {count} of {len(layers)}{chosen} ({seconds:.1f} s)")


def _is_written(study: Study, folder: Path, name: str) -> bool:
    """Whether `strata layers --write` has narrowed the view to the layers that this very elimination kept."""
    section = study.params.eliminate[name]
    found = read_narrowed(folder)
    if found is None:
        return False
    view, written, elimination = found
    try:
        narrowed = parse(written)
        # As recorded: read as a section today, it would have today's defaults. Earlier versions kept the section alone,
        # in which a key that has come since is at its default.
        resolved = elimination.resolved or Elimination.model_validate(elimination.config).resolved()
    except (ValueError, TypeError):
        return False
    return resolved == section.resolved() and view == section.view and narrowed == study.params.views[section.view]


def _found(outcome: "Eliminations") -> dict[str, object]:
    """What was found, as the results have it; scores of folds by round are those of the pooling chosen."""
    chosen, pooling = outcome.chosen, outcome.pooling
    choices = outcome.nested_choices()
    nested, spread = _tested([found for _, found in choices])
    last = len(chosen.rounds_) - 1
    rounds = []
    for number, found in enumerate(chosen.rounds_):
        test, test_sd = _tested([each.rounds_[number] for each in outcome.nested[pooling]])
        rounds.append(
            RoundResult(
                number=number + 1,
                layers=tuple(found.weights),
                weights=found.weights,
                valid=found.valid,
                test=test,
                dropped=None if number == last else found.weakest,
                weights_sd=_spread(found, "weights"),
                valid_sd=_spread(found, "valid"),
                test_sd=test_sd,
            )
        )
    return {
        "pooling": pooling,
        "layer_names": tuple(chosen.layer_names_),
        "rounds": tuple(rounds),
        "support": tuple(chosen.kept_),
        "best_round": chosen.best_round_ + 1,
        "sizes": {split: len(getattr(outcome.folds[0], split)) for split in ("train", "valid", "test")},
        "nested": Nested(
            tasks={
                task: {"mean": mean, "sd": spread.get(task), "folds": [found.test[task] for _, found in choices]}
                for task, mean in nested.items()
            },
            kept=tuple(len(found.weights) for _, found in choices),
            poolings=tuple(which for which, _ in choices),
        ),
        "trails": tuple(
            _trail(which, fold, each)
            for which in outcome.whole
            for fold, each in [(None, outcome.whole[which]), *enumerate(outcome.nested[which])]
        ),
        "ranking": dict(zip(chosen.layer_names_, chosen.ranking_.tolist(), strict=True)),
    }


def _spread(found: "Round", which: str) -> Mapping[str, float]:
    return dict((found.spread or {}).get(which, {}))


def _tested(folds: "list[Round]") -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Test scores of one round in every fold, mean and spread: over the folds; of a single one, over its seeds."""
    if len(folds) == 1:
        return folds[0].test, _spread(folds[0], "test")
    from strata.trainers.tasks.metrics import summary

    found = {task: summary([each.test[task] for each in folds]) for task in folds[0].test}
    return tuple({task: each[what] for task, each in found.items()} for what in ("mean", "sd"))


def _trail(pooling: str, fold: int | None, found: "LayerElimination") -> Trail:
    """One elimination in brief: in which order layers went, and the mean scores of its rounds."""
    return Trail(
        pooling=pooling,
        fold=fold,
        valid=tuple(each.valid["mean"] for each in found.rounds_),
        test=tuple(each.test.get("mean") for each in found.rounds_),
        best_round=found.best_round_ + 1,
        dropped=tuple(each.weakest for each in found.rounds_),
    )
