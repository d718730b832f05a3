"""`strata layers RESULTS`: which layers an elimination kept, what for, and what cutting the model after them saves.

Reads the results of an elimination (`elimination`) and the view's section of params.yaml, measures what the cut saves
(`saving`), and with `--write` narrows the view to the layers kept (`narrowing`). Knows no training; the wavCSE paper
(§3.2) has the table of what the cut saves for layer 17 of WavLM Large.
"""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path

from strata.extractors import CheckpointAbsent
from strata.extractors.miniatures import PREFIX
from strata.extractors.view import View
from strata.pipeline.commands.layers import elimination, narrowing, saving
from strata.pipeline.commands.layers.elimination import section_of
from strata.pipeline.commands.layers.saving import Saving
from strata.pipeline.progress import say
from strata.pipeline.results.eliminations import EliminationResult, write_savings
from strata.pipeline.show import notices
from strata.pipeline.show.names import layer_ranges
from strata.pipeline.show.tables import Cell, Column, Table, is_number, millions, number, plain, size
from strata.pipeline.study import options, where
from strata.pipeline.study.folder import Study


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
    """Prints what an elimination found, and narrows its view if asked to.

    Args:
        results: folder of an elimination, or its elimination.json.
        params: of the study; None: that around the results, else here or above.
        edited: the params file to be edited, whose study's store is narrowed; None edits nothing.
        timed: whether the whole and the cut model are run.
        as_json: an object instead of tables.

    Raises:
        StageError: no such results, or params.yaml is not of the view that they are of; see also `narrowing.write`.
    """
    found = elimination.read(results)
    study = Study(edited or params or _around(results))
    section = section_of(study, found)
    try:
        saved = saving.measure(study, found, section, timed)
        _keep(found, saved)
    except CheckpointAbsent:
        say(f"the model of views.{found.view} is not on this machine: what cutting it saves is left out")
        saved = None
    if as_json:
        print(json.dumps(_as_json(found, saved), indent=1))
    else:
        print(plain(_scores(found)), end="\n\n")
        if saved is not None:
            print(plain(_savings(found, saved)), end="\n\n")
        if worth := _worth(study, section):
            print(worth)
    if edited is not None:
        narrowing.write(study, found, section)


def _keep(found: EliminationResult, saved: Saving) -> None:
    """Leaves what was measured beside the elimination, for the report."""
    costs = {"whole": asdict(saved.whole), "cut": asdict(saved.cut)}
    record = {name: {which: cost[name] for which, cost in costs.items()} for name in costs["cut"]}
    record |= {"layers": found.highest, "device": saved.device, "sample": saved.sample, "rounds": saved.rounds}
    write_savings(found.folder, record)


def _around(results: Path) -> Path:
    """The params file of the study that results lie in; the one here or above where they lie in none."""
    return where.above(results.absolute().parent) or where.here()


def _worth(study: Study, section: View) -> str:
    """Why the numbers say nothing of real speech or real models, in lines."""
    synthetic = [name for name, corpus in study.params.corpora.items() if corpus.synthetic]
    miniatures = [name for name, view in study.params.views.items() if view == section]
    reasons = notices.about(synthetic, miniatures if section.source.startswith(PREFIX) else [])
    return "\n".join(notice.line for notice in reasons)


# -- what it found ---------------------------------------------------------------------------------------------------


def _as_json(found: EliminationResult, saved: Saving | None) -> dict[str, object]:
    return {
        "name": found.name,
        "view": found.view,
        "pooling": found.pooling,
        "layer_names": list(found.layer_names),
        "support": list(found.support),
        "ranking": dict(found.ranking),
        "rounds": len(found.rounds),
        "best_round": found.best_round,
        "valid": {"kept": dict(found.best.valid), "all": dict(found.all_layers.valid)},
        "nested_test": {key: value for key, value in found.nested_mean.items() if value is not None} or None,
        "saving": None if saved is None else asdict(saved),
    }


def _scores(found: EliminationResult) -> Table:
    """Validation scores of the chosen round beside those of all layers, and what the choice is worth on test data."""
    best, every = found.best, found.all_layers
    rows = [("layers", str(len(found.support)), str(len(found.layer_names)))]
    names = ["mean", *(task for task in best.valid if task != "mean")]
    for name in names:
        sides = (_spread(each.valid.get(name), each.valid_sd.get(name)) for each in (best, every))
        rows.append((f"validation, {name}", *sides))
    notes = [
        f"Layers kept: {layer_ranges(found.support)}.",
        f"Dropped, in this order: {', '.join(found.dropped) or 'none'}.",
        f"Chosen by validation: round {found.best_round} of {len(found.rounds)}, pooling {found.pooling}.",
    ]
    if is_number(found.nested_mean.get("mean")):
        nested, all_layers = found.nested_mean, _spread(every.test.get("mean"), every.test_sd.get("mean"))
        rows.append(("test, mean", _spread(nested["mean"], nested.get("sd")), all_layers))
        folds = len(nested.get("folds", []))
        each, over = (f"in each of {folds} folds ", "folds") if folds > 1 else ("", "seeds")
        spread = f"mean ± SD of the {over}" if is_number(nested.get("sd")) else "of one training, which has no SD"
        notes.append(f"Test: of layers chosen {each}without its test data; {spread}.")
    return Table(
        f"Elimination {found.name}: layers of view {found.view}",
        (Column(""), Column("layers kept", numeric=True), Column("all layers", numeric=True)),
        tuple(tuple(map(Cell, row)) for row in rows),
        notes=tuple(notes),
    )


def _spread(mean: object, sd: object) -> str:
    return f"{number(mean, 4)} ± {number(sd, 4)}" if is_number(sd) else number(mean, 4)


# -- what it saves -------------------------------------------------------------------------------------------------


def _savings(found: EliminationResult, saved: Saving) -> Table:
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
    caption = f"What cutting the model of {found.view} after layer {found.highest} saves"
    if not found.is_cut:
        caption = f"Layer {found.highest} is kept: no part of the model of {found.view} can be left out"
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
