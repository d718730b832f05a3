"""`strata layers RESULTS --write params.yaml`: a view of the layers kept alone, its store narrowed with it.

Everything is checked before anything is moved. Then the store is narrowed (`store.narrow`), `written.json` is put
beside the elimination, and last the params file gets its edit: cut short anywhere, the same command goes on from there.
What `strata eliminate` reads in written.json is that the view became what it is by this elimination, so that it is not
run again on the layers that are left.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from strata.extractors import CheckpointAbsent
from strata.extractors.sources import local_only
from strata.extractors.view import LAST_HIDDEN_STATE, Upto, View
from strata.pipeline.commands.layers import editing
from strata.pipeline.commands.layers.elimination import with_layers
from strata.pipeline.errors import StageError
from strata.pipeline.extraction import work
from strata.pipeline.extraction.work import Extraction
from strata.pipeline.files import write_if_changed
from strata.pipeline.progress import bar, counted, say
from strata.pipeline.results import eliminations
from strata.pipeline.results.eliminations import EliminationResult
from strata.pipeline.show.names import layer_height, layer_ranges
from strata.pipeline.show.tables import size
from strata.pipeline.study import dvcfile, fingerprints, params, soundness, yaml12
from strata.pipeline.study.folder import Study
from strata.store import FeatureStore, differences, narrow


def write(study: Study, found: EliminationResult, section: View) -> None:
    """Keeps the layers that an elimination kept: in the params file and in the view's store.

    Args:
        study: the params file, and the stores below its folder.
        found: which layers stay.
        section: of the view, as it is.

    Raises:
        StageError: the section names other layers than took part, something names one that would go, or the store does
            not hold the values that the layers were eliminated on. Nothing has been changed then.
        StoreError: the store cannot be narrowed, see `store.narrow`.
    """
    if len(found.support) == len(found.layer_names):
        what = "the one layer is" if len(found.support) == 1 else f"all {len(found.support)} layers are"
        say(f"{found.name}: {what} kept: nothing to write")
        return
    _check_layers(study, found, section)
    _refuse_uses(study, found, section)
    kept = with_layers(section, found.support)
    text = _edited(study, found, kept)
    _narrow(study, found, kept)
    eliminations.write_narrowed(found.folder, found.view, kept.model_dump(mode="json"))
    changed = write_if_changed(study.params_file.resolve(), text)
    say(
        f"{study.params_file}: views.{found.view} {'now has' if changed else 'has'} the layers "
        f"{layer_ranges(found.support)}"
    )
    _warn(study, found)


# -- checks --------------------------------------------------------------------------------------------------------


def _check_layers(study: Study, found: EliminationResult, section: View) -> None:
    """Raises StageError unless the section's layers are those that took part, or the kept ones already."""
    if section.layers == "all":
        return
    asked = range(section.layers.upto + 1) if isinstance(section.layers, Upto) else section.layers
    names = {str(layer) for layer in asked}
    if LAST_HIDDEN_STATE in names:
        raise StageError(
            f"views.{found.view} of {study.params_file} has {LAST_HIDDEN_STATE} too, which takes part in no "
            f"elimination and would go; make a view under another name, with layers: [{', '.join(found.support)}]"
        )
    if names not in ({*found.layer_names}, {*found.support}):
        raise StageError(
            f"views.{found.view} of {study.params_file} has the layers {layer_ranges(names)}, the elimination "
            f"{layer_ranges(found.layer_names)}; run `strata eliminate {found.name}` on the view as it is"
        )


def _refuse_uses(study: Study, found: EliminationResult, section: View) -> None:
    """Raises StageError where params.yaml names a layer that would go."""
    gone = {*found.layer_names} - {*found.support}
    for where, layers in _uses(study.params, found.view, section):
        if lost := [layer for layer in layers if layer in gone]:
            raise StageError(
                f"{where} of {study.params_file} names layer {lost[0]} of {found.view}, which would go: the "
                f"elimination keeps {layer_ranges(found.support)}; change it first, or give the narrow view a name "
                "of its own"
            )


def _uses(content: params.Params, view: str, section: View) -> Iterator[tuple[str, list[str]]]:
    """Places that name layers of a view, with their names."""
    yield f"views.{view}.frames", [str(layer) for layer in section.frames]
    for name, cell, experiment in _experiments(content, view):
        if not isinstance(experiment.layers, str):
            yield f"experiments.{name}{cell and f', cell {cell}'}", [str(layer) for layer in experiment.layers]
    for name, tune in content.tune.items():
        values = tune.space.get("layers", [])
        if view in content.experiments[tune.experiment].views and isinstance(values, list):
            lists = [value for value in values if isinstance(value, list)]
            yield f"tune.{name}.space.layers", [str(layer) for value in lists for layer in value]
    for picture in content.report.tsne:
        if picture.layer is not None and picture.view in (["all"], *([v] for v in picture.view if v == view)):
            yield "report.tsne", [str(picture.layer)]


def _experiments(content: params.Params, view: str) -> Iterator[tuple]:
    """(name, cell, experiment) of all that use a view."""
    for name in content.experiments:
        for cell, experiment in content.cells(name).items():
            if view in experiment.views:
                yield name, cell, experiment


def _warn(study: Study, found: EliminationResult) -> None:
    """Says what means something else from now on."""
    before = max(found.layer_names, key=layer_height)
    names = dict.fromkeys(n for n, _, e in _experiments(study.params, found.view) if e.layers == "last")
    if names and found.highest != before:
        say(
            f"`layers: last` of {found.view} is layer {found.highest} now and was layer {before}: "
            f"{', '.join(f'experiments.{name}' for name in names)}"
        )
    if found.chosen_on_all:
        say(
            f"the layers were chosen on all utterances: what folds test on {found.view} from now on has had a part "
            "in it; what the folds of this elimination tested had none"
        )
    others = [n for n, e in study.params.eliminate.items() if e.view == found.view and n != found.name]
    if others:
        say(f"{', '.join(f'eliminate.{name}' for name in others)} will begin with the layers that are left")


# -- the params file -----------------------------------------------------------------------------------------------


def _edited(study: Study, found: EliminationResult, kept: View) -> bytes:
    """The params file with the kept layers.

    Raises:
        StageError: it cannot be edited without changing something else.
    """
    text = study.params_file.read_bytes().decode()  # its line endings are the user's
    if study.params.views[found.view] == kept:
        return text.encode()
    edited = editing.with_value(text, ("views", found.view, "layers"), kept.layers)
    would_be = params.parse(yaml12.load(edited), study.params_file).views[found.view]
    if would_be != kept:
        raise StageError(f"{study.params_file}: views.{found.view} would become {would_be}, expected {kept}")
    return edited.encode()


# -- the store -----------------------------------------------------------------------------------------------------


def _narrow(study: Study, found: EliminationResult, kept: View) -> None:
    path = study.store(found.view)
    wide = study.folder / "wide" / path.name
    if not FeatureStore.exists(path) and not FeatureStore.exists(wide):
        say(
            f"{path} is not here, so only {study.params_file} is edited; where the store is, call this command before "
            f"`strata extract {found.view}`: that would refuse the wide store"
        )
        return
    if path.exists() and (lacking := dvcfile.lacking(study, found.view)):
        raise StageError(f"{lacking}: run `dvc pull` first, or remove {path} to edit only {study.params_file}")
    after = expected(study, found, kept)
    store = FeatureStore.open(path if FeatureStore.exists(path) else wide)
    if store.holds(after):
        say(f"{path}: {counted(len(store), 'row')}, of the layers kept already")
        return
    if not store.holds(found.fingerprint):
        raise StageError(
            f"{store.path} does not hold what {found.file} was made from "
            f"({differences(dict(store.header.fingerprint), dict(found.fingerprint), ('there', 'eliminated'))}); "
            f"run `strata eliminate {found.name}` again"
        )
    with bar(len(store), "rows", f"{path}") as shown:

        def show(done: int, rows: int) -> None:
            shown.total = rows
            shown.update(done - shown.n)

        narrowed = narrow.narrow(
            path,
            wide,
            before=found.fingerprint,
            after=after,
            layers=after["layers"],
            frame_layers=after["frames"],
            progress=show,
        )
    soundness.Known.read(study.folder, found.view).forget()  # the copy is read once, by the next extraction
    what = f"{counted(len(narrowed), 'row')} of {counted(len(narrowed.layer_names), 'layer')}"
    say(f"{path}: {what}, copied and not computed again, {size(narrowed.num_bytes())}")
    left = size(FeatureStore.open(wide).num_bytes())
    say(
        f"{wide}: the store as it was, {left}; nothing reads it, so it may be removed. To go back, remove {path}, move "
        f"this one there, and give views.{found.view} the layers that it had"
    )


def expected(study: Study, found: EliminationResult, kept: View) -> dict[str, object]:
    """The fingerprint that `strata extract` expects of the narrowed view.

    It is that of the elimination but for `layers` and `frames`, as every family's `fingerprint` is; the model itself is
    asked besides, where it is here, since it may have changed in the meantime.

    Raises:
        StageError: it has.
    """
    names = [str(layer) for layer in kept.layers]
    derived = {**found.fingerprint, "layers": names, "frames": [str(layer) for layer in kept.frames]}
    extraction = replace(Extraction.of(study, found.view), section=kept.model_dump_json())
    try:
        with local_only():
            computed = fingerprints.remembered(
                Path(extraction.folder), found.view, extraction.section, lambda: work.look(extraction)
            )
    except CheckpointAbsent:
        return derived  # whoever reports the outcome has said so
    computed = json.loads(json.dumps(dict(computed)))
    if computed != derived:
        raise StageError(
            f"views.{found.view} computes other values now than those that {found.file} was made from "
            f"({differences(derived, computed, ('then', 'now'))}); bring that model back, or run `strata extract "
            f"{found.view}` and `strata eliminate {found.name}`"
        )
    return derived
