"""`strata layers RESULTS`: which layers an elimination kept, what for, and what cutting the model after them saves.

Reads results/eliminate/<name>/elimination.json (`outcome`) and the view's section of params.yaml, measures what the cut
saves (`saving`), and with `--write` narrows the view to the layers kept (`narrowing`). Knows no training; the wavCSE
paper (§3.2) has the table of what the cut saves for layer 17 of WavLM Large.
"""

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from strata.extractors import CheckpointAbsent
from strata.extractors.miniatures import PREFIX
from strata.extractors.view import View
from strata.pipeline.commands.layers import narrowing, saving
from strata.pipeline.commands.layers.outcome import EliminationOutcome, section_of
from strata.pipeline.commands.layers.saving import Saving
from strata.pipeline.files import write_if_changed
from strata.pipeline.progress import say
from strata.pipeline.show import notices
from strata.pipeline.show.names import layer_ranges
from strata.pipeline.show.tables import Cell, Column, Table, is_number, millions, number, plain, size
from strata.pipeline.study import options, where
from strata.pipeline.study.folder import Study

SAVINGS = "savings.json"
"""Beside elimination.json: for each quantity what it is of the whole and of the cut model."""


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    parser.description = (
        "The layers that an elimination kept, their scores beside those of all layers, and what cutting the model "
        "after the highest of them saves. With --write the view is narrowed to them: in the params file, and in its "
        "store, whose rows are copied. The wide store is kept in wide/ until you remove it."
    )
    parser.epilog = "example: strata layers results/eliminate/wavlm --write params.yaml"
    options.add_debug(parser)
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder of an elimination's results")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="the params file whose view, and the store beside it, are narrowed"
    )
    parser.add_argument("--no-time", dest="time", action="store_false", help="run neither the whole nor the cut model")
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of tables")
    parser.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="of the study; default: that of --write, that of the study around RESULTS, or params.yaml here or above",
    )
    parser.set_defaults(call=lambda given: run(given.results, given.params, given.write, given.time, given.json))


def run(results: Path, params: Path | None, edited: Path | None, timed: bool, as_json: bool) -> None:
    """Prints an elimination's outcome, and narrows its view if asked to.

    Args:
        results: folder of an elimination, or its elimination.json.
        params: of the study; None: that around the results, else here or above.
        edited: the params file to be edited, whose study's store is narrowed; None edits nothing.
        timed: whether the whole and the cut model are run.
        as_json: an object instead of tables.

    Raises:
        StageError: no such results, or params.yaml is not of the view that they are of; see also `narrowing.write`.
    """
    outcome = EliminationOutcome.read(results)
    study = Study(edited or params or _around(results))
    section = section_of(study, outcome)
    try:
        saved = saving.measure(study, outcome, section, timed)
        _keep(outcome, saved)
    except CheckpointAbsent:
        say(f"the model of views.{outcome.view} is not on this machine: what cutting it saves is left out")
        saved = None
    if as_json:
        print(json.dumps(_as_json(outcome, saved), indent=1))
    else:
        print(plain(_scores(outcome)), end="\n\n")
        if saved is not None:
            print(plain(_savings(outcome, saved)), end="\n\n")
        if worth := _worth(study, section):
            print(worth)
    if edited is not None:
        narrowing.write(study, outcome, section)


def _keep(outcome: EliminationOutcome, saved: Saving) -> None:
    """Leaves what was measured beside the elimination, for the report."""
    costs = {"whole": asdict(saved.whole), "cut": asdict(saved.cut)}
    record = {name: {which: cost[name] for which, cost in costs.items()} for name in costs["cut"]}
    if not saved.rounds and outcome.file.with_name(SAVINGS).exists():
        return  # which was measured, and this was not
    record |= {"layers": outcome.highest, "device": saved.device, "sample": saved.sample, "rounds": saved.rounds}
    write_if_changed(outcome.file.with_name(SAVINGS), (json.dumps(record, indent=1) + "\n").encode())


def _around(results: Path) -> Path:
    """The params file of the study that results lie in; the one here or above where they lie in none."""
    return where.above(results.absolute().parent) or where.here()


def _worth(study: Study, section: View) -> str:
    """Why the numbers say nothing of real speech or real models, in lines."""
    synthetic = [name for name, corpus in study.params.corpora.items() if corpus.synthetic]
    miniatures = [name for name, view in study.params.views.items() if view == section]
    reasons = notices.about(synthetic, miniatures if section.source.startswith(PREFIX) else [])
    return "\n".join(notice.line for notice in reasons)


# -- the outcome ---------------------------------------------------------------------------------------------------


def _as_json(outcome: EliminationOutcome, saved: Saving | None) -> dict[str, object]:
    return {
        "name": outcome.name,
        "view": outcome.view,
        "pooling": outcome.pooling,
        "layer_names": list(outcome.layer_names),
        "support": list(outcome.support),
        "ranking": dict(outcome.ranking),
        "rounds": len(outcome.rounds),
        "best_round": outcome.best_round,
        "valid": {"kept": dict(outcome.best["valid"]), "all": dict(outcome.all_layers["valid"])},
        "nested_test": dict(outcome.nested) or None,
        "saving": None if saved is None else asdict(saved),
    }


def _scores(outcome: EliminationOutcome) -> Table:
    """Validation scores of the chosen round beside those of all layers, and what the choice is worth on test data."""
    best, every = outcome.best, outcome.all_layers
    rows = [("layers", str(len(outcome.support)), str(len(outcome.layer_names)))]
    names = ["mean", *(task for task in best["valid"] if task != "mean")]
    rows += [(f"validation, {name}", _score(best, "valid", name), _score(every, "valid", name)) for name in names]
    notes = [
        f"Layers kept: {layer_ranges(outcome.support)}.",
        f"Dropped, in this order: {', '.join(outcome.dropped) or 'none'}.",
        f"Chosen by validation: round {outcome.best_round} of {len(outcome.rounds)}, pooling {outcome.pooling}.",
    ]
    if is_number(outcome.nested.get("mean")):
        rows.append(
            ("test, mean", _spread(outcome.nested["mean"], outcome.nested.get("sd")), _score(every, "test", "mean"))
        )
        folds = len(outcome.nested.get("folds", []))
        each, over = (f"in each of {folds} folds ", "folds") if folds > 1 else ("", "seeds")
        spread = (
            f"mean ± SD of the {over}" if is_number(outcome.nested.get("sd")) else "of one training, which has no SD"
        )
        notes.append(f"Test: of layers chosen {each}without its test data; {spread}.")
    return Table(
        f"Elimination {outcome.name}: layers of view {outcome.view}",
        (Column(""), Column("layers kept", numeric=True), Column("all layers", numeric=True)),
        tuple(tuple(map(Cell, row)) for row in rows),
        notes=tuple(notes),
    )


def _score(found: Mapping, split: str, name: str) -> str:
    return _spread(found.get(split, {}).get(name), found.get(f"{split}_sd", {}).get(name))


def _spread(mean: object, sd: object) -> str:
    return f"{number(mean, 4)} ± {number(sd, 4)}" if is_number(sd) else number(mean, 4)


# -- what it saves -------------------------------------------------------------------------------------------------


def _savings(outcome: EliminationOutcome, saved: Saving) -> Table:
    """As the paper tells it: before, after, and the share that is saved."""
    whole, cut = saved.whole, saved.cut
    lines = [
        ("pooled values of an utterance", size, whole.pooled_bytes, cut.pooled_bytes),
        ("parameters", millions, whole.parameters, cut.parameters),
        ("bytes of parameters", _weights, whole.bytes, cut.bytes),
    ]
    if saved.rounds:
        lines += [
            ("operations", _operations, whole.operations, cut.operations),
            ("time", _milliseconds, whole.seconds, cut.seconds),
        ]
    rows = [
        (name, shown(before), shown(after), f"{1 - after / before:.1%}" if before and after else "–")
        for name, shown, before, after in lines
    ]
    notes = []
    if saved.rounds:
        notes.append(f"Time and operations: {saved.sample}, {saved.device};")
        notes.append(f"time is the median of {saved.rounds} rounds in which the two models took turns.")
    caption = f"What cutting the model of {outcome.view} after layer {outcome.highest} saves"
    if not outcome.is_cut:
        caption = f"Layer {outcome.highest} is kept: no part of the model of {outcome.view} can be left out"
    columns = (Column(""), *(Column(title, numeric=True) for title in ("before", "after", "saved")))
    return Table(caption, columns, tuple(tuple(map(Cell, row)) for row in rows), notes=tuple(notes))


def _weights(count: int | None) -> str:
    """Bytes in the unit that suits them; of large models in the binary one too, which papers call GB as well."""
    if count is None or count < 1e8:
        return size(count)
    return f"{count / 1e9:.3f} GB = {count / 2**30:.3f} GiB"


def _operations(count: float | None) -> str:
    return "–" if count is None else f"{count / 1e9:,.3g} GFLOP"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1e3 * seconds:,.1f} ms"
