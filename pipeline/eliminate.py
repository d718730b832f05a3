"""`strata eliminate NAME…`: all cached layers of one view → results/eliminate/<name>/elimination.json."""

import json
import time

from pipeline import gather
from pipeline.files import write_if_changed
from pipeline.progress import bar, say
from pipeline.study import Study, for_each


def run(study: Study, names: list[str]) -> None:
    """Runs the named eliminations (all where none is named) whose inputs have changed.

    Raises:
        StageError: one could not be run; the others have been.
    """
    for_each(study.chosen("eliminate", names), lambda name: _eliminate(study, name), "elimination")


def _eliminate(study: Study, name: str) -> None:
    section = study.params.eliminate[name]
    tasks = {task: study.params.tasks[task] for task in section.tasks}
    sources = gather.Sources(study)
    table, views = sources.select([section.view], tasks, section.folds)
    path = study.results("eliminate", name) / "elimination.json"
    cell = gather.identity(section, tasks, section.folds, table, views)
    if gather.up_to_date(path, cell):
        say(f"{name}: up to date")
        return
    from trainers.elimination import eliminate  # torch, only now that there is something to train

    layers = gather.layer_names(views[section.view].store, "all")
    data = sources.dataset(table, views, {section.view: layers})
    say(f"{name}: {gather.shape_note(data)}")
    provenance = gather.provenance(study, views)
    started = time.monotonic()
    with bar(len(layers), "rounds", name) as progress:
        elimination, split = eliminate(section, tasks, data, layers, progress.update)
    seconds = time.monotonic() - started

    rounds = [
        {
            "round": number,
            "layers": list(result.weights),
            "weights": result.weights,
            "valid": result.valid,
            "test": result.test,
            "dropped": min(result.weights, key=result.weights.get) if len(result.weights) > 1 else None,
        }
        for number, result in enumerate(elimination.rounds_, start=1)
    ]
    outcome = {
        "name": name,
        "view": section.view,
        "tasks": section.tasks,
        "pooling": section.pooling,
        "layer_names": list(layers),
        "rounds": rounds,
        "support": list(elimination.support_),
        "ranking": elimination.ranking_,
        "best_round": elimination.best_round_ + 1,
        "config": section.model_dump(mode="json"),
        "seconds": round(seconds, 3),
        "num_train": len(split.train),
        "num_valid": len(split.valid),
        "num_test": len(split.test),
        "provenance": provenance,
        "cell": cell,
    }
    write_if_changed(path, (json.dumps(outcome, indent=1) + "\n").encode())
    say(f"{name}: keeps layers {', '.join(elimination.support_)} of {len(layers)} ({seconds:.1f} s)")
