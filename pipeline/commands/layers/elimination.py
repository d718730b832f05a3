"""The elimination that `strata layers` is about, and the view that its layers are of. Knows no model and no store."""

from collections.abc import Sequence
from pathlib import Path

from strata.extractors.miniatures import PREFIX
from strata.extractors.sources import LOCAL_DIRECTORY
from strata.extractors.view import View, parse
from strata.pipeline.errors import StageError
from strata.pipeline.results.eliminations import FILE, EliminationResult, read_elimination
from strata.pipeline.results.reading import BROKEN
from strata.pipeline.study.folder import Study


def read(results: Path) -> EliminationResult:
    """The elimination of a folder of results, or of the file in it.

    Raises:
        StageError: there is none, or it cannot be read, or it lacks what an earlier version did not tell.
    """
    file = results if results.suffix == ".json" else results / FILE
    try:
        found = read_elimination(file)
        _check(found)
    except (FileNotFoundError, NotADirectoryError):
        raise StageError(
            f"no {file}: expected the results of an elimination, such as results/eliminate/wavlm; "
            "`strata eliminate` makes them"
        ) from None
    except BROKEN as error:
        raise StageError(f"{file} cannot be read ({_reason(error)}); run `strata eliminate` again") from error
    return found


def _check(found: EliminationResult) -> None:
    """Raises one of the errors of a file that cannot be read where it does not tell what is needed here."""
    if not {*found.layer_names} <= {*found.ranking}:
        raise ValueError(f"ranking: expected all of {list(found.layer_names)}, found {list(found.ranking)}")
    if not found.fingerprint:
        raise ValueError(f"provenance: no fingerprint of view {found.view}")
    for each in (found.best, found.all_layers):
        float(each.valid["mean"])


def section_of(study: Study, found: EliminationResult) -> View:
    """The view's section of params, once it is known to be that of the model whose layers were eliminated.

    Raises:
        StageError: params.yaml has no such view, or one of another model, or one without layers to choose from.
    """
    views = study.params.views
    if found.view not in views:
        raise StageError(
            f"{study.params_file} has no views.{found.view}, which {found.file} is about; "
            f"it has {', '.join(views) or 'none'}"
        )
    section = views[found.view]
    if "layers" not in type(section).model_fields:
        raise StageError(
            f"views.{found.view}: expected a family whose model can be cut after a layer (transformers, text), "
            f"found {section.family}, which gives one layer; there is nothing to leave out"
        )
    was = (found.fingerprint.get("family"), found.fingerprint.get("source"))
    is_folder = was[1] == LOCAL_DIRECTORY and not section.source.startswith(PREFIX)
    if section.family != was[0] or not (section.source == was[1] or is_folder):
        raise StageError(
            f"views.{found.view} of {study.params_file} is another view than {found.file} was made from: found "
            f"{section.family}, {section.source}, expected {was[0]}, {was[1]}; run `strata extract {found.view}` and "
            f"`strata eliminate {found.name}`"
        )
    return section


def with_layers(section: View, layers: Sequence[str], **changes: object) -> View:
    """The view's section with these layers, as a list."""
    numbers = [int(layer) if layer.isdecimal() else layer for layer in layers]
    return parse({**section.model_dump(mode="json"), "layers": numbers, **changes})


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
