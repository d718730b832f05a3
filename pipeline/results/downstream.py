"""Downstream tasks on frozen embeddings, as `strata downstream` writes them below results/downstream.

What was trained or verified has the form of an experiment's results (`results.experiments`); a section that could not
be run, since no corpus has what it asks for, has a `skipped.json` in their place. Knows nothing of tables, figures or
HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from strata.pipeline.results.experiments import FILE, ExperimentResult, read_alone
from strata.pipeline.results.reading import Gap, json_object, read
from strata.pipeline.results.writing import write_json

SKIPPED = "skipped.json"
"""In the folder of a section that could not be run: its `name`, and the `reason`."""


def collect(folder: Path, sections: Mapping, gaps: list[Gap]) -> tuple[list[ExperimentResult], dict[str, str]]:
    """The results, in the order of `params.yaml`, and section → why it was skipped; adds a gap for what is missing."""
    found, skipped = [], {}
    for name in sections:
        where = folder / "results" / "downstream" / name
        gap = Gap(f"downstream task {name}", f"strata downstream {quote(name)}")
        if (where / SKIPPED).exists() and not (where / FILE).exists():
            reason = read(read_skipped, where / SKIPPED, folder, gaps, gap)
            if reason is not None:
                skipped[name] = reason
            continue
        if not (where / FILE).exists() and (absent := _absent(folder, sections[name])):
            gap = Gap(gap.what, f"strata embed {quote(absent)}")
        found.append(read(lambda path, name=name: read_alone(path, name), where / FILE, folder, gaps, gap))
    return [result for result in found if result is not None], skipped


def _absent(folder: Path, section: object) -> str | None:
    """The first embedding that a section reads and that is not there yet; None where all are."""
    views = section.get("views") if isinstance(section, Mapping) else None
    names = [str(view) for view in views] if isinstance(views, list) else []
    return next((name for name in names if not (folder / "embeddings" / f"{name}.zarr").exists()), None)


def read_skipped(path: Path) -> str:
    """Why a section was skipped.

    Raises:
        ValueError or OSError: a file that is not what it should be.
    """
    return str(json_object(path).get("reason") or "no reason was told")


def write_skipped(folder: Path, name: str, reason: str) -> None:
    """Says why a section was skipped, in its folder of results."""
    write_json(folder / SKIPPED, {"name": name, "reason": reason})
