"""What a study has to show: everything that its stages left on disk, read into frozen dataclasses.

The one module of the report that touches files (the t-SNE's feature stores apart). A missing or broken file is
never an error here: it becomes a `Gap` that names the command which makes it. Knows nothing of tables, figures or HTML.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

import pandas as pd

from extractors.recogniser import parse
from pipeline.transcripts import merged


@dataclass(frozen=True)
class Gap:
    """Something that the report cannot show."""

    what: str
    """What is missing, and why where that is known."""
    command: str = ""
    """The command that makes it; empty where there is none."""

    def __str__(self) -> str:
        return f"{self.what}: run `{self.command}`" if self.command else self.what


@dataclass(frozen=True)
class Experiment:
    """The results of one training configuration."""

    name: str
    setup: str
    """`SVST`, `SVMT`, `MVMT-concat`, `TANGO` or another label: how views and tasks are combined."""
    views: tuple[str, ...]
    tasks: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """Task → metric → `mean`, `sd` and `folds`; accuracies and recalls as fractions."""
    kinds: Mapping[str, str]
    primary: Mapping[str, str]
    """Task → the metric it is compared by."""
    chance: Mapping[str, Mapping[str, float]]
    """Task → metric → score of always answering the majority class, or the training mean."""
    classes: Mapping[str, list]
    config: Mapping[str, Any]
    num_utterances: int | None
    num_folds: int | None
    seeds: tuple[int, ...]
    layers: Mapping[str, Sequence[str]]
    """View → the layers that were read."""
    seconds: Mapping[str, float]
    provenance: Mapping[str, Any]
    predictions: pd.DataFrame | None
    """Out of fold, a row per utterance and seed: `<task>.true` and `<task>.predicted`."""
    curves: pd.DataFrame | None
    """`seed`, `fold`, `task_group`, `epoch`, `train_loss`, `valid_loss`."""


@dataclass(frozen=True)
class Round:
    """One training of a recursive layer elimination."""

    number: int
    layers: tuple[str, ...]
    weights: Mapping[str, float]
    valid: Mapping[str, float]
    """`mean` and one score per task; the choice is made on these."""
    test: Mapping[str, float]
    dropped: str | None


@dataclass(frozen=True)
class Elimination:
    """The outcome of one recursive layer elimination."""

    name: str
    view: str
    tasks: tuple[str, ...]
    pooling: str
    layer_names: tuple[str, ...]
    """All layers of the view, in the model's order."""
    rounds: tuple[Round, ...]
    support: tuple[str, ...]
    """The layers kept."""
    best_round: int
    config: Mapping[str, Any]
    seconds: float | None
    sizes: Mapping[str, int]
    """Utterances per split: `train`, `valid`, `test`."""
    provenance: Mapping[str, Any]

    @property
    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """View → the layers that were read, as an experiment has it."""
        return {self.view: self.layer_names}

    @property
    def best(self) -> Round:
        """The chosen round."""
        return next(r for r in self.rounds if r.number == self.best_round)


@dataclass(frozen=True)
class Study:
    """Everything that a report can be made from."""

    folder: Path
    params: Mapping[str, Mapping]
    """Every section of `params.yaml`; a section that is absent there is empty here."""
    manifest: pd.DataFrame | None
    manifest_hash: str
    """BLAKE2b, as the experiments record it; empty where there is no manifest."""
    failures: Mapping[str, pd.DataFrame]
    """File, relative to the study → its rows `utterance`, `audio`, `reason`; files without rows are left out."""
    experiments: tuple[Experiment, ...]
    eliminations: tuple[Elimination, ...]
    extractions: Mapping[str, Mapping[str, float]]
    """View → the timings of its last extraction that computed something."""
    gaps: tuple[Gap, ...]

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

    def _views(self, which: Callable[[Any], bool]) -> list[str]:
        """Names of the views whose section, or whose fingerprint in some result, is among those asked for."""
        about = list(self.params["views"].items())
        for result in (*self.experiments, *self.eliminations):
            recorded = mapping(result.provenance.get("views"))
            about += [(name, _get(view, "fingerprint")) for name, view in recorded.items()]
        return list(dict.fromkeys(name for name, view in about if which(view)))

    def label(self, task: str) -> str:
        """The manifest's column that holds a task's label."""
        return _get(self.params["tasks"].get(task), "label") or task

    def kind(self, task: str) -> str:
        """The kind of a task named in `params.yaml`."""
        return _get(self.params["tasks"].get(task), "kind") or "classification"


MANIFEST = ("utterance", "duration_s", "speaker", "content")
"""Columns of the manifest that the page cannot do without."""
SECTIONS = ("corpora", "transcribe", "views", "tasks", "experiments", "eliminate", "extract", "report")


def collect(folder: Path, params: Mapping) -> Study:
    """Reads whatever the study's folder holds, in the order of `params.yaml`."""
    sections = {name: mapping(params.get(name)) for name in SECTIONS}
    gaps: list[Gap] = []

    manifest_path = folder / "data" / "manifest.parquet"
    read = partial(_manifest, recognisers=sections["transcribe"])
    manifest = _read(read, manifest_path, folder, gaps, Gap("the corpus", "strata corpus"))
    for view in sections["views"]:
        if not (folder / "features" / f"{view}.zarr").exists():
            gaps.append(Gap(f"the features of view {view}", f"strata extract {quote(view)}"))
    experiments = _experiments(folder, sections["experiments"], gaps)
    eliminations = []
    for name in sections["eliminate"]:
        path = folder / "results" / "eliminate" / name / "elimination.json"
        gap = Gap(f"layer elimination {name}", f"strata eliminate {quote(name)}")
        eliminations.append(_read(_elimination, path, folder, gaps, gap))
    extractions = {}
    for view in sections["views"]:
        path = folder / "results" / "extract" / f"{view}.json"
        if path.exists():
            extractions[view] = _read(_json, path, folder, gaps, Gap(f"the timings of view {view}"))

    return Study(
        folder=folder,
        params=sections,
        manifest=manifest,
        manifest_hash=""
        if manifest is None
        else hashlib.blake2b(manifest_path.read_bytes(), digest_size=16).hexdigest(),
        failures=_failures(folder, sections["views"], gaps),
        experiments=tuple(experiments),
        eliminations=tuple(e for e in eliminations if e is not None),
        extractions={view: timings for view, timings in extractions.items() if timings is not None},
        gaps=tuple(gaps),
    )


def layer_height(layer: str) -> float:
    """Where a layer stands in its model: its number; infinity for what comes after all of them, -1 without a number."""
    return float(layer) if layer.isdecimal() else float("inf") if layer == "last_hidden_state" else -1.0


def reason(error: Exception) -> str:
    """Why something failed, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _manifest(path: Path, recognisers: Mapping) -> pd.DataFrame:
    manifest = pd.read_parquet(path)
    if absent := [column for column in MANIFEST if column not in manifest.columns]:
        raise ValueError(f"it has no column {', '.join(absent)}")
    sections = {name: parse(section) for name, section in recognisers.items()}
    return merged(manifest, path.with_name("transcripts.parquet"), sections)


def _experiments(folder: Path, names: Mapping, gaps: list[Gap]) -> list[Experiment]:
    """Results of the experiments named in `params.yaml`; an experiment's grid cells lie in folders below its own."""
    root = folder / "results"
    found: dict[str, list[Path]] = {name: [] for name in names}
    strangers = []
    for path in sorted(root.rglob("metrics.json")):
        cell = path.parent.relative_to(root)
        if cell.parts and cell.parts[0] not in ("eliminate", "extract"):
            found.get(cell.parts[0], strangers).append(path)
    experiments = []
    for name, paths in found.items():
        gap = Gap(f"experiment {name}", f"strata train {quote(name)}")
        if not paths:
            gaps.append(gap)
        for path in paths:
            cell = path.parent.relative_to(root).as_posix()
            experiments.append(_read(lambda p, cell=cell: _experiment(p, cell), path, folder, gaps, gap))
    if strangers:
        cells = ", ".join(path.parent.relative_to(root).as_posix() for path in strangers)
        gaps.append(Gap(f"left out, since params.yaml names them no more: {cells} (below results/)"))
    return [experiment for experiment in experiments if experiment is not None]


def _experiment(path: Path, name: str) -> Experiment:
    metrics = _json(path)
    tasks = {
        task: {metric: mapping(values) for metric, values in scores.items()}
        for task, scores in metrics["tasks"].items()
    }
    kinds = {task: str(mapping(metrics.get("kinds")).get(task) or "classification") for task in tasks}
    primary = mapping(metrics.get("primary"))
    return Experiment(
        name=name,
        setup=str(metrics.get("setup") or name),
        views=_texts(metrics.get("views") or ()),
        tasks=tasks,
        kinds=kinds,
        primary={
            task: str(primary.get(task) or ("rmse" if kinds[task] == "regression" else "accuracy")) for task in tasks
        },
        chance={task: mapping(scores) for task, scores in mapping(metrics.get("chance")).items()},
        classes={t: names for t, names in mapping(metrics.get("classes")).items() if isinstance(names, list)},
        config=mapping(metrics.get("config")),
        num_utterances=metrics.get("num_utterances"),
        num_folds=metrics.get("num_folds"),
        seeds=tuple(metrics.get("seeds") or ()),
        layers={v: _texts(names) for v, names in mapping(metrics.get("layers")).items() if isinstance(names, list)},
        seconds=mapping(metrics.get("seconds")),
        provenance=mapping(metrics.get("provenance")),
        predictions=_predictions(path.with_name("predictions.parquet")),
        curves=_optional(path.with_name("curves.parquet")),
    )


def _predictions(path: Path) -> pd.DataFrame | None:
    frame = _optional(path)
    if frame is None:
        return None
    return frame[[column for column in frame.columns if column.endswith((".true", ".predicted"))]]


def _optional(path: Path) -> pd.DataFrame | None:
    return pd.read_parquet(path) if path.exists() else None


def _elimination(path: Path) -> Elimination:
    found = _json(path)
    rounds = tuple(
        Round(
            number=r["round"],
            layers=_texts(r["layers"]),
            weights=mapping(r.get("weights")),
            valid=mapping(r.get("valid")),
            test=mapping(r.get("test")),
            dropped=None if r.get("dropped") is None else str(r["dropped"]),
        )
        for r in found["rounds"]
    )
    layer_names, support = _texts(found["layer_names"]), _texts(found["support"])
    if not support:
        raise ValueError("it keeps no layer")
    if found["best_round"] not in {r.number for r in rounds}:
        raise ValueError(f"best_round {found['best_round']} is not among its rounds")
    named = {layer for r in rounds for layer in r.layers} | set(support)
    if unknown := named - set(layer_names):
        raise ValueError(f"layers {sorted(unknown)} are not among its layer_names")
    return Elimination(
        name=path.parent.name,
        view=str(found.get("view", "")),
        tasks=_texts(found.get("tasks") or ()),
        pooling=str(found.get("pooling", "")),
        layer_names=tuple(sorted(layer_names, key=layer_height)),
        rounds=rounds,
        support=support,
        best_round=found["best_round"],
        config=mapping(found.get("config")),
        seconds=found.get("seconds"),
        sizes={split: found[f"num_{split}"] for split in ("train", "valid", "test") if f"num_{split}" in found},
        provenance=mapping(found.get("provenance")),
    )


def _failures(folder: Path, views: Mapping, gaps: list[Gap]) -> dict[str, pd.DataFrame]:
    files = ["data/corpus.failures.csv", "data/transcripts.failures.csv"]
    files += [f"features/{view}.failures.csv" for view in views]
    failures = {}
    for name in files:
        if (folder / name).exists():
            rows = _read(_failure_rows, folder / name, folder, gaps, Gap(f"the failures in {name}"))
            if rows is not None and len(rows):
                failures[name] = rows
    return failures


def _failure_rows(path: Path) -> pd.DataFrame:
    if not path.read_text(encoding="utf-8").strip():  # no header either: pandas would refuse it
        return pd.DataFrame()
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    return rows.reindex(columns=["utterance", "audio", "reason"], fill_value="")


def _read(read: Callable[[Path], Any], path: Path, folder: Path, gaps: list[Gap], gap: Gap) -> Any:
    """What `read` makes of the file; None, and a gap, where the file is missing or is not what it should be."""
    if not path.exists():
        gaps.append(gap)
        return None
    try:
        return read(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # Arrow's errors are among these
        where = path.relative_to(folder).as_posix()
        what = f"{gap.what} ({where} cannot be read: {type(error).__name__}: {reason(error)})"
        gaps.append(Gap(what, gap.command))
        return None


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object, found a {type(found).__name__}")
    return found


def _texts(values: Iterable) -> tuple[str, ...]:
    return tuple(map(str, values))


def mapping(value: Any) -> Mapping:
    """The value where it is a mapping; an empty one where a file or `params.yaml` holds something else."""
    return value if isinstance(value, Mapping) else {}


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None
