"""`strata eliminate NAME…`: all cached layers of one view → results/eliminate/<name>/elimination.json.

Every round is noted in `rounds.jsonl` beside it as soon as its models are trained, those of all folds and seeds, so
that a killed elimination goes on there; when all is done the notes have done their service. `strata layers` reads the
outcome, and may narrow the view to the layers kept: `written.json` then says so, and that there is nothing left to
eliminate.
"""

import json
import time
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
from strata.extractors.view import parse
from strata.pipeline.errors import for_each
from strata.pipeline.files import write_if_changed
from strata.pipeline.progress import bar, say
from strata.pipeline.stages.identity import identity_of, up_to_date
from strata.pipeline.stages.journal import Journal
from strata.pipeline.stages.provenance import provenance_of
from strata.pipeline.study import options
from strata.pipeline.study.folder import Study
from strata.pipeline.study.layers import layer_names
from strata.pipeline.study.sources import Sources, shape_note
from strata.store.lock import exclusive
from strata.trainers import revisions
from strata.trainers.spec import Elimination

if TYPE_CHECKING:
    from strata.trainers.search.elimination import LayerElimination, Round
    from strata.trainers.search.rounds import Key, Outcome


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    options.add_stage(parser, run, "NAME", "strata eliminate wavlm")


def run(study: Study, names: list[str]) -> None:
    """Runs the named eliminations (all where none is named) whose inputs have changed.

    Raises:
        StageError: one could not be run; the others have been.
    """
    for_each(study.chosen("eliminate", names), lambda name: _eliminate(study, name), "elimination")


def _eliminate(study: Study, name: str) -> None:
    section = study.params.eliminate[name]
    folder = study.results("eliminate", name)
    if _is_written(study, folder, name):
        say(f"{name}: up to date; view {section.view} has been narrowed to the layers that it kept")
        return
    tasks = {task: study.params.tasks[task] for task in section.tasks}
    sources = Sources(study)
    table, views = sources.select([section.view], tasks, section.folds, section.corpora)
    layers, config = layer_names(views[section.view].store, "all"), section.model_dump(mode="json")
    resolved, parts = section.resolved() | {"layers": layers}, revisions.of(section, tasks)
    cell = identity_of(resolved, tasks, section.folds, table, views, parts)
    if up_to_date(study, folder / "elimination.json", cell, config):
        say(f"{name}: up to date")
        return
    from strata.trainers.folds import notes_on
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

            workers = study.params.train.workers or joblib.cpu_count()
            outcome = rounds.eliminate(section, tasks, data, layers, done, note, workers)
        seconds = time.monotonic() - started
        record = {
            "name": name,
            "view": section.view,
            "tasks": section.tasks,
            **_record(outcome),
            "config": config,
            "seconds": round(seconds, 3),
            "provenance": provenance,
            "cell": cell,
        }
        for file in ("written.json", "savings.json"):  # of the outcome before
            (folder / file).unlink(missing_ok=True)
        write_if_changed(folder / "elimination.json", (json.dumps(record, indent=1) + "\n").encode())
        journal.path.unlink()
    for doubt in notes_on(outcome.folds, data.labels, data.contents, section.folds, data.segments):
        say(f"{name}: {doubt}")
    chosen = f" with pooling {outcome.pooling}" if len(section.poolings) > 1 else ""
    kept = ", ".join(outcome.chosen.kept_)
    count = len(outcome.chosen.kept_)
    say(f"{name}: keeps layers {kept}: {count} of {len(layers)}{chosen} ({seconds:.1f} s)")


def _is_written(study: Study, folder: Path, name: str) -> bool:
    """Whether `strata layers --write` has narrowed the view to the layers that this very elimination kept."""
    section = study.params.eliminate[name]
    try:
        written = json.loads((folder / "written.json").read_text())
        narrowed = parse(written["section"])
        config = Elimination.model_validate(json.loads((folder / "elimination.json").read_text())["config"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    # Not as they were written: a key may have come since that does nothing.
    same = config.resolved() == section.resolved()
    return same and written["view"] == section.view and narrowed == study.params.views[section.view]


def _record(outcome: "Outcome") -> dict[str, object]:
    """What was found, for whoever reads the file; scores of folds by round are those of the pooling chosen."""
    chosen, pooling = outcome.chosen, outcome.pooling
    choices = outcome.nested_choices()
    nested = _tested([found for _, found in choices])
    tests = {
        task: {"mean": mean, "sd": nested["test_sd"].get(task), "folds": [found.test[task] for _, found in choices]}
        for task, mean in nested["test"].items()
    }
    last = len(chosen.rounds_) - 1
    return {
        "pooling": pooling,
        "layer_names": list(chosen.layer_names_),
        "support": list(chosen.kept_),
        "ranking": dict(zip(chosen.layer_names_, chosen.ranking_.tolist(), strict=True)),
        "best_round": chosen.best_round_ + 1,
        "rounds": [
            {
                "round": number + 1,
                "layers": list(found.weights),
                **_with_spread("weights", found.weights, found.spread),
                **_with_spread("valid", found.valid, found.spread),
                **_tested([each.rounds_[number] for each in outcome.nested[pooling]]),
                "dropped": None if number == last else found.weakest,
            }
            for number, found in enumerate(chosen.rounds_)
        ],
        "nested": {
            "test": tests.pop("mean"),
            "tasks": tests,
            "kept": [len(found.weights) for _, found in choices],
            "poolings": [which for which, _ in choices],
        },
        "paths": [
            _path(which, fold, each)
            for which in outcome.whole
            for fold, each in [(None, outcome.whole[which]), *enumerate(outcome.nested[which])]
        ],
        "num_train": len(outcome.folds[0].train),
        "num_valid": len(outcome.folds[0].valid),
        "num_test": len(outcome.folds[0].test),
    }


def _with_spread(name: str, values: Mapping[str, float], spread: Mapping | None) -> dict[str, object]:
    return {name: dict(values), f"{name}_sd": dict((spread or {}).get(name, {}))}


def _tested(folds: "list[Round]") -> dict[str, object]:
    """Test scores of one round in every fold: their spread is over the folds; of a single one, over its seeds."""
    if len(folds) == 1:
        return _with_spread("test", folds[0].test, folds[0].spread)
    from strata.trainers.tasks.metrics import summary

    found = {task: summary([each.test[task] for each in folds]) for task in folds[0].test}
    return {
        f"test{end}": {task: each[what] for task, each in found.items()} for end, what in (("", "mean"), ("_sd", "sd"))
    }


def _path(pooling: str, fold: int | None, found: "LayerElimination") -> dict[str, object]:
    """One elimination in brief: in which order layers went, and the mean scores of its rounds."""
    return {
        "pooling": pooling,
        "fold": fold,
        "dropped": [each.weakest for each in found.rounds_],
        "valid": [each.valid["mean"] for each in found.rounds_],
        "test": [each.test.get("mean") for each in found.rounds_],
        "best_round": found.best_round_ + 1,
    }
