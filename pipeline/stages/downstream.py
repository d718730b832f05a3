"""`strata downstream NAME…`: frozen embeddings and labels → results/downstream/<name>/ (wavCSE §3, phase 2).

A section is a single-layer model, trained and written as an experiment is (`stages.cells`), or a verification
(`trainers.evaluation.verification`). What the corpora lack is skipped, with a line and `skipped.json` in the place of
scores: one recipe names all tasks, whatever corpora are at hand. Audio that the embedding's model was trained on is
never tested; where that is all there is, the section is skipped too.
"""

import time
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence

import pandas as pd

from strata.pipeline.errors import Errors, nearest
from strata.pipeline.files import write_table
from strata.pipeline.progress import say
from strata.pipeline.results.downstream import SKIPPED, write_skipped
from strata.pipeline.results.experiments import FILE, TRIALS, write_metrics
from strata.pipeline.stages import trial_list
from strata.pipeline.stages.cells import TABLES, Cell, locked, train
from strata.pipeline.stages.identity import identity_of, up_to_date
from strata.pipeline.stages.provenance import provenance_of
from strata.pipeline.study import options
from strata.pipeline.study.embeddings import LAYER, Embeddings
from strata.pipeline.study.folder import Study
from strata.pipeline.study.manifest import corpus_of
from strata.pipeline.study.sources import labelled
from strata.trainers import revisions
from strata.trainers.spec import Downstream, Task, Verification


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    options.add_stage(parser, run, "NAME", "strata downstream age")


def run(study: Study, names: list[str]) -> None:
    """Runs the named sections (all where none is named) whose inputs have changed.

    Raises:
        StageError: some could not be run; the others have been.
    """
    files = {name: study.results("downstream", name) / "downstream" for name in study.chosen("downstream", names)}
    with locked("downstream", files) as (free, errors), Embeddings(study) as sources:
        _run(study, sources, free, errors)


def _run(study: Study, sources: Embeddings, names: Sequence[str], errors: Errors) -> None:
    cells: list[Cell] = []
    for name in names:
        with errors.of(f"downstream {name}"):
            section = study.params.downstream[name]
            if not (corpora := _corpora(study, name, section)):
                continue
            if isinstance(section, Verification):
                _verify(study, sources, name, section, corpora)
                continue
            if not (tasks := _tasks(study, sources, name, section, corpora)):
                continue
            here = section.model_copy(update={"corpora": corpora, "tasks": tasks})
            cell = Cell.of(sources, f"downstream/{name}", {}, here)
            if _is_all_seen(study, sources, name, cell.views, cell.table):
                continue
            if cell.is_up_to_date(study):
                cell.forget_kept(study)
                say(f"downstream/{name}: up to date")
            else:
                _say_seen(sources, cell)
                cells.append(cell)
            (study.results("downstream", name) / SKIPPED).unlink(missing_ok=True)
    if cells:
        train(study, sources, cells, errors)


def _corpora(study: Study, name: str, section: Downstream | Verification) -> list[str]:
    """The corpora of a section that are there; none, and the section is skipped, where it names only others."""
    known = list(study.params.corpora)
    found = [corpus for corpus in section.corpora or known if corpus in known]
    if not found:
        _skip(
            study, name, f"no corpus {' or '.join(section.corpora)} in params.yaml{_nearest(section.corpora[0], known)}"
        )
    return found


def _tasks(study: Study, sources: Embeddings, name: str, section: Downstream, corpora: Sequence[str]) -> list[str]:
    """The tasks of a section that the corpora label; none, and the section is skipped, where they label none."""
    manifest = sources.manifest[corpus_of(sources.manifest).isin(corpora)]
    tasks = {task: study.params.tasks[task] for task in section.tasks}
    found = [task for task, how in tasks.items() if labelled(manifest, task, how).any()]
    lacking = [task for task in tasks if task not in found]
    labels = [tasks[task].label or task for task in lacking]
    reason = f"no utterance of {', '.join(corpora)} is labelled for {', '.join(lacking)}"
    if absent := [label for label in labels if label not in manifest]:
        reason += f": the manifest has no label {absent[0]}{_nearest(absent[0], manifest.columns)}"
    if not found:
        _skip(study, name, reason)
    elif lacking:
        say(f"downstream/{name}: {reason}, which is left out")
    return found


def _is_all_seen(study: Study, sources: Embeddings, name: str, views: Iterable[str], table: pd.DataFrame) -> bool:
    """Whether nothing can be tested, since all audio has trained the embedding; then the section is skipped."""
    if not table["content"].isin(sources.seen_by(views)).all():
        return False
    corpora = ", ".join(corpus_of(table).unique())
    _skip(
        study,
        name,
        f"all {len(table)} utterances of {corpora} have trained the embedding, which leaves none to test; name other "
        "corpora, or divide both by the same folds: {given: split}",
    )
    return True


def _nearest(name: str, known: Iterable[str]) -> str:
    close = nearest(name, known, cutoff=0.8)
    return f" (did you mean {close}?)" if close else ""


def _skip(study: Study, name: str, reason: str) -> None:
    folder = study.results("downstream", name)
    # What is there is of corpora that are not: the report must not show it.
    for file in (FILE, *TABLES, TRIALS):
        (folder / file).unlink(missing_ok=True)
    write_skipped(folder, name, reason)
    say(f"downstream/{name}: skipped, {reason}")


def _say_seen(sources: Embeddings, cell: Cell) -> None:
    seen = sources.seen_by(cell.views)
    if shared := int(cell.table["content"].isin(seen).sum()):
        say(f"{cell.title}: {shared} of {len(cell.table)} utterances have trained the embedding and are never tested")


def _verify(study: Study, sources: Embeddings, name: str, section: Verification, corpora: Sequence[str]) -> None:
    tasks = {section.verify: Task(kind="classification", corpora=list(corpora))}
    manifest = sources.manifest
    if not labelled(manifest, section.verify, tasks[section.verify]).any():
        hint = "" if section.verify in manifest else _nearest(section.verify, manifest.columns)
        _skip(study, name, f"no utterance of {', '.join(corpora)} is labelled for {section.verify}{hint}")
        return
    folder = study.results("downstream", name)
    table, views = sources.select(section.views, tasks, section.folds, corpora)
    if _is_all_seen(study, sources, name, views, table):
        return
    listed = named = None
    if section.trials is not None:
        utterances = table["utterance"].tolist()
        listed = trial_list.read(study.folder / section.trials, utterances)
        named = trial_list.named(listed, utterances)
    config, parts = section.model_dump(mode="json"), revisions.of(section, tasks)
    seen = sources.seen_by(views)
    identity = identity_of(section.resolved(), tasks, section.folds, table, views, parts, seen, named)
    if up_to_date(study, folder / FILE, identity, config) and (folder / TRIALS).exists():
        say(f"downstream/{name}: up to date")
        return
    from strata.trainers.evaluation.verification import verify

    (view,) = section.views
    started = time.monotonic()
    data = sources.dataset(table, views, {view: (LAYER,)})
    outcome = verify(section, data, view, listed)
    for note in outcome.notes:
        say(f"downstream/{name}: {note}")
    (folder / FILE).unlink(missing_ok=True)
    write_table(folder / TRIALS, outcome.trials)
    write_metrics(
        folder,
        f"downstream/{name}",
        outcome.metrics,
        corpora=corpus_of(table).unique(),
        layers={view: [LAYER]},
        config=config,
        seconds=time.monotonic() - started,
        provenance=provenance_of(study, views),
        identity=identity,
    )
    (folder / SKIPPED).unlink(missing_ok=True)
    eer = outcome.metrics["tasks"][section.verify]["eer"]["mean"]
    say(f"downstream/{name}: {section.verify} eer {eer:.3f} of {outcome.metrics['num_trials']} trials")
