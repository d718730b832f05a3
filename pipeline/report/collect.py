"""What a study has to show: everything that its stages left on disk, read into frozen dataclasses.

With the readers that it calls, the one module of the report that touches files (the t-SNE's feature stores apart). A
missing or broken file is never an error here: it becomes a `Gap` that names the command which makes it. Knows nothing
of tables, figures or HTML.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

import pandas as pd

from strata import extractors
from strata.extractors.recogniser import parse
from strata.pipeline.results import downstream, eliminations, experiments, extractions, searches
from strata.pipeline.results.eliminations import EliminationResult
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.results.extractions import ExtractionResult
from strata.pipeline.results.reading import Gap, mapping, read
from strata.pipeline.results.searches import SearchResult
from strata.pipeline.show import notices
from strata.pipeline.show.notices import Notice
from strata.pipeline.study.transcripts import merged
from strata.trainers.tasks import KINDS
from strata.trainers.tasks.contract import Kind


@dataclass(frozen=True)
class Findings:
    """Everything that a report can be made from."""

    folder: Path
    params: Mapping[str, Mapping]
    """Every section of `params.yaml`; a section that is absent there is empty here."""
    manifest: pd.DataFrame | None
    manifest_hash: str
    """BLAKE2b, as the experiments record it; empty where there is no manifest."""
    failures: Mapping[str, pd.DataFrame]
    """File, relative to the study → its rows `utterance`, `audio`, `reason`; files without rows are left out."""
    experiments: tuple[ExperimentResult, ...]
    eliminations: tuple[EliminationResult, ...]
    searches: tuple[SearchResult, ...]
    downstream: tuple[ExperimentResult, ...]
    """Tasks on frozen embeddings; their views are names of `embed`."""
    skipped: Mapping[str, str]
    """Section of `downstream` → why it could not be run."""
    extractions: Mapping[str, ExtractionResult]
    """By view, the last one that computed something."""
    gaps: tuple[Gap, ...]

    @property
    def alone(self) -> list[ExperimentResult]:
        """The experiments that are no cell of a grid."""
        return [experiment for experiment in self.experiments if not experiment.is_cell]

    @property
    def cells(self) -> list[ExperimentResult]:
        """The experiments that grids stand for."""
        return [experiment for experiment in self.experiments if experiment.is_cell]

    @property
    def synthetic_corpora(self) -> list[str]:
        """Corpora whose speech the demo synthesiser made."""
        return [name for name, corpus in self.params["corpora"].items() if _get(corpus, "adapter") == "demo"]

    @property
    def miniature_views(self) -> list[str]:
        """Views of random weights, by `params.yaml` or by what an experiment recorded of its own views."""
        return self._views(lambda view: str(_get(view, "source")).startswith("miniature:"))

    def views_of(self, family: str) -> list[str]:
        """Views of a family, by `params.yaml` or by what an experiment recorded of its own views."""
        return self._views(lambda view: _get(view, "family") == family)

    @property
    def notices(self) -> list[Notice]:
        """What must be said beside its numbers."""
        families = {family: self.views_of(family) for family in extractors.NOTICES}
        return notices.about(self.synthetic_corpora, self.miniature_views) + notices.licences(families)

    @property
    def results(self) -> tuple[ExperimentResult | EliminationResult | SearchResult, ...]:
        """All that was trained and recorded what it was made from."""
        return (*self.experiments, *self.eliminations, *self.searches, *self.downstream)

    def _views(self, which: Callable[[Any], bool]) -> list[str]:
        """Names of the views whose section, or whose fingerprint in some result, is among those asked for."""
        about = list(self.params["views"].items())
        for result in self.results:
            recorded = mapping(result.provenance.get("views"))
            about += [(name, _get(view, "fingerprint")) for name, view in recorded.items()]
        return list(dict.fromkeys(name for name, view in about if which(view)))

    def label(self, task: str) -> str:
        """The manifest's column that holds a task's label."""
        return _get(self.params["tasks"].get(task), "label") or task

    def kind(self, task: str) -> Kind | None:
        """The kind of a task named in `params.yaml`; None where it is none that is known."""
        return KINDS.get(_get(self.params["tasks"].get(task), "kind") or "classification")


MANIFEST = ("utterance", "duration_s", "speaker", "content")
"""Columns of the manifest that the page cannot do without."""
SECTIONS = (
    "corpora", "transcribe", "views", "tasks", "experiments", "eliminate", "tune", "embed", "downstream", "extract",
    "train", "report",
)  # fmt: skip


def collect(folder: Path, params: Mapping) -> Findings:
    """Reads whatever the study's folder holds, in the order of `params.yaml`."""
    sections = {name: mapping(params.get(name)) for name in SECTIONS}
    gaps: list[Gap] = []

    manifest_path = folder / "data" / "manifest.parquet"
    reader = partial(_manifest, recognisers=sections["transcribe"])
    manifest = read(reader, manifest_path, folder, gaps, Gap("the corpus", "strata corpus"))
    for view in sections["views"]:
        if not (folder / "features" / f"{view}.zarr").exists():
            gaps.append(Gap(f"the features of view {view}", f"strata extract {quote(view)}"))
    found = experiments.collect(folder, sections["experiments"], list(sections["corpora"]), gaps)
    eliminated = eliminations.collect(folder, sections["eliminate"], gaps)
    searched = searches.collect(folder, sections["tune"], gaps)
    results, skipped = downstream.collect(folder, sections["downstream"], gaps)

    return Findings(
        folder=folder,
        params=sections,
        manifest=manifest,
        manifest_hash=""
        if manifest is None
        else hashlib.blake2b(manifest_path.read_bytes(), digest_size=16).hexdigest(),
        failures=_failures(folder, sections["views"], gaps),
        experiments=tuple(found),
        eliminations=tuple(eliminated),
        searches=tuple(searched),
        downstream=tuple(results),
        skipped=skipped,
        extractions=extractions.collect(folder, sections["views"], gaps),
        gaps=tuple(gaps),
    )


def _manifest(path: Path, recognisers: Mapping) -> pd.DataFrame:
    manifest = pd.read_parquet(path)
    if absent := [column for column in MANIFEST if column not in manifest.columns]:
        raise ValueError(f"it has no column {', '.join(absent)}")
    sections = {name: parse(section) for name, section in recognisers.items()}
    return merged(manifest, path.with_name("transcripts.parquet"), sections)


def _failures(folder: Path, views: Mapping, gaps: list[Gap]) -> dict[str, pd.DataFrame]:
    files = ["data/corpus.failures.csv", "data/transcripts.failures.csv"]
    files += [f"features/{view}.failures.csv" for view in views]
    failures = {}
    for name in files:
        if (folder / name).exists():
            rows = read(_failure_rows, folder / name, folder, gaps, Gap(f"the failures in {name}"))
            if rows is not None and len(rows):
                failures[name] = rows
    return failures


def _failure_rows(path: Path) -> pd.DataFrame:
    if not path.read_text(encoding="utf-8").strip():  # no header either: pandas would refuse it
        return pd.DataFrame()
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    return rows.reindex(columns=["utterance", "audio", "reason"], fill_value="")


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None
