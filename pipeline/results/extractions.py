"""How fast views were extracted: the schema of results/extract/<view>.json, which `strata extract` writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from strata.pipeline.results.reading import Gap, json_object, read
from strata.pipeline.results.writing import write_json

IN_FLOAT32 = "in_float32"
"""Under which a store, and with it the provenance of results, has the modules that were computed in float32 on some
machine because the view's number format was seen to be wrong for them there."""


@dataclass(frozen=True)
class ExtractionResult:
    """The last extraction of a view that computed something; None where a file does not tell."""

    view: str
    utterances: int | None = None
    """That were computed."""
    audio_s: float | None = None
    """Of them; None for a view of texts."""
    seconds: float | None = None
    rows: int | None = None
    """Of the store, those that were there before among them."""
    bytes: int | None = None
    """Of the store."""
    failures: int | None = None
    """Utterances that could not be computed."""


def collect(folder: Path, views: Iterable[str], gaps: list[Gap]) -> dict[str, ExtractionResult]:
    """View → its last extraction, where there was one; adds a gap for a file that cannot be read."""
    found = {}
    for view in views:
        path = _file(folder, view)
        if path.exists():
            found[view] = read(read_extraction, path, folder, gaps, Gap(f"the timings of view {view}"))
    return {view: extraction for view, extraction in found.items() if extraction is not None}


def read_extraction(path: Path) -> ExtractionResult:
    """What one such file holds.

    Raises:
        ValueError or OSError: a file that is not what it should be.
    """
    found = json_object(path)
    fields = ExtractionResult.__dataclass_fields__
    return ExtractionResult(**{"view": path.stem, **{key: found[key] for key in fields if key in found}})


def write_extraction(folder: Path, found: ExtractionResult) -> None:
    """Writes it below the folder of a study."""
    write_json(_file(folder, found.view), asdict(found))


def _file(folder: Path, view: str) -> Path:
    return folder / "results" / "extract" / f"{view}.json"
