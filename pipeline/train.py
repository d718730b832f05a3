"""`strata train EXPERIMENT…`: cached layers and labels → results/<experiment>/: scores, predictions, a model."""

import io
import json
import os
import shutil
import time

from pipeline import gather
from pipeline.files import write_if_changed
from pipeline.progress import bar, say
from pipeline.study import Study, for_each

OUTPUTS = ("predictions.parquet", "curves.parquet", "model/config.json", "model/model.safetensors")
"""What stands beside metrics.json."""


def run(study: Study, names: list[str]) -> None:
    """Trains the named experiments (all where none is named) whose inputs have changed.

    Raises:
        StageError: an experiment could not be trained; the others have been.
    """
    for_each(study.chosen("experiments", names), lambda name: _train(study, name), "experiment")


def _train(study: Study, name: str) -> None:
    experiment = study.params.experiments[name]
    tasks = {task: study.params.tasks[task] for task in experiment.tasks}
    table, views = gather.select(study, experiment.views, tasks, experiment.folds)
    folder = study.results(name)
    cell = gather.identity(experiment, tasks, experiment.folds, table, views)
    if gather.up_to_date(folder / "metrics.json", cell) and all((folder / name).exists() for name in OUTPUTS):
        say(f"{name}: up to date")
        return
    from trainers import experiment as trainer  # torch, only now that there is something to train

    layers = {view: gather.layer_names(cached.store, experiment.layers) for view, cached in views.items()}
    data = gather.dataset(table, views, layers)
    say(f"{name} ({experiment.setup}): {gather.shape_note(data)}")
    provenance = gather.provenance(study, views)
    started = time.monotonic()
    with bar(trainer.num_models(experiment), "models", name) as progress:
        outcome = trainer.run(experiment, tasks, data, progress.update, workers=os.cpu_count() or 1)
    seconds = time.monotonic() - started

    metrics = {
        "experiment": name,
        **outcome.metrics,
        "layers": layers,
        "config": experiment.model_dump(mode="json"),
        "seconds": {"total": round(seconds, 3)},
        "provenance": provenance,
        "cell": cell,
    }
    # metrics.json is written last: it says that the rest is there and belongs together.
    (folder / "metrics.json").unlink(missing_ok=True)
    shutil.rmtree(folder / "model", ignore_errors=True)
    sections = {view: study.params.views[view].model_dump(mode="json") for view in experiment.views}
    extra = {"views": sections, "layers": layers, "synthetic_corpora": gather.synthetic_corpora(study, table)}
    outcome.predictor.save(folder / "model", {**extra, "provenance": provenance})
    _write_table(folder / "predictions.parquet", outcome.predictions)
    _write_table(folder / "curves.parquet", outcome.curves)
    write_if_changed(folder / "metrics.json", (json.dumps(metrics, indent=1) + "\n").encode())
    scores = ", ".join(
        f"{task} {metric} {outcome.metrics['tasks'][task][metric]['mean']:.3f}"
        for task, metric in outcome.metrics["primary"].items()
    )
    say(f"{name}: {scores} ({seconds:.1f} s)")


def _write_table(path, table) -> None:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_if_changed(path, buffer.getvalue())
