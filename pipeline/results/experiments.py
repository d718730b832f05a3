"""The results of experiments: the schema of metrics.json and of the tables beside it, their reader and writer.

`collect` reads those that `params.yaml` names from disk: one each, or one per cell of a grid.

Which cells belong to a grid follows from its section (`trainers.search.grid`), never from what lies on disk. The tables
of a cell (predictions and curves) are read when they are drawn: hundreds of them need not be in memory side by side.
Knows nothing of tables, figures or HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from shlex import quote
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from strata.pipeline.progress import counted, noun
from strata.pipeline.results.reading import BROKEN, Gap, json_object, mapping, read, reason, texts, unreadable
from strata.pipeline.results.writing import write_json
from strata.trainers.tasks import KINDS

if TYPE_CHECKING:
    import pandas as pd

FILE = "metrics.json"
"""In the folder of every result; written last, it says that the rest is there and belongs together."""
PREDICTIONS, CURVES, TRIALS = "predictions.parquet", "curves.parquet", "trials.parquet"
"""Beside it: what was predicted out of fold, the losses by epoch, and the pairs that a verification scored."""
NAMED_STRANGERS = 6
"""Results that params.yaml names no more up to which the page tells them by name."""


@dataclass(frozen=True)
class ExperimentResult:
    """The results of one training configuration."""

    name: str
    """Folder below `results/`: the section's name, and for a cell of a grid the cell's behind it."""
    section: str
    """Name in `params.yaml`."""
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
    corpora: tuple[str, ...]
    """Those that its utterances come from; empty where a result of an earlier version does not say."""
    folds: Mapping[str, Any]
    """`hash`, equal for experiments that were tested on the same folds, and `sizes`."""
    truth: Mapping[str, str]
    """Task → a hash of its labels: scores on other labels are not to be compared."""
    num_utterances: int | None
    num_folds: int | None
    seeds: tuple[int, ...]
    layers: Mapping[str, Sequence[str]]
    """View → the layers that were read."""
    seconds: Mapping[str, float]
    provenance: Mapping[str, Any]
    folder: Path
    """Where its files lie."""
    predictions: pd.DataFrame | None = None
    """Out of fold, a row per utterance and seed: `utterance`, `<task>.true` and `<task>.predicted`. None for a cell:
    `with_tables` reads it."""
    curves: pd.DataFrame | None = None
    """`seed`, `fold`, `task_group`, `epoch`, `train_loss`, `valid_loss`. None for a cell."""
    num_tested: Mapping[str, int] = field(default_factory=dict)
    """Task → how many utterances it was tested on; empty where a result of an earlier version does not say."""
    num_trials: int | None = None
    """Pairs of utterances that a verification scored."""

    @property
    def is_cell(self) -> bool:
        """Whether it is one of many that a grid stands for."""
        return self.name != self.section

    @property
    def compared(self) -> dict[str, Any]:
        """What a comparison of two experiments takes (`trainers.evaluation.comparison`): scores and folds."""
        told = {"folds": self.folds, "tasks": self.tasks, "primary": self.primary, "truth": self.truth}
        return {"experiment": self.name, **told}

    def with_tables(self) -> ExperimentResult:
        """The same with `predictions` and `curves`, each None where there is no such file.

        Raises:
            ValueError or OSError: a file that cannot be read.
        """
        import pandas as pd

        predictions, curves = self.folder / PREDICTIONS, self.folder / CURVES
        return replace(
            self,
            predictions=_predictions(predictions) if predictions.exists() else None,
            curves=pd.read_parquet(curves) if curves.exists() else None,
        )


def collect(folder: Path, sections: Mapping, corpora: Sequence[str], gaps: list[Gap]) -> list[ExperimentResult]:
    """The results of all experiments, in the order of `params.yaml`; adds a gap for what is missing.

    Args:
        folder: of the study.
        sections: `experiments` of params.yaml.
        corpora: the names of all corpora, which a grid may stand for.
        gaps: what cannot be shown; appended to.
    """
    from strata.pipeline.study.params import RESERVED

    root = folder / "results"
    on_disk = {path.parent.relative_to(root).as_posix() for path in root.rglob(FILE)}
    strangers = {name for name in on_disk if name.split("/")[0] not in (".", *RESERVED)}
    experiments = []
    for name, section in sections.items():
        gap = Gap(f"experiment {name}", f"strata train {quote(name)}")
        if not mapping(section).get("grid"):
            path = root / name / FILE
            experiments.append(read(partial(read_alone, name=name), path, folder, gaps, gap))
            strangers.discard(name)
            continue
        try:
            cells = {f"{name}/{cell}": config for cell, config in _cells(section, corpora).items()}
        except ValueError as error:
            gaps.append(Gap(f"experiment {name} (its grid cannot be: {reason(error)})"))
            strangers = {stranger for stranger in strangers if not stranger.startswith(f"{name}/")}
            continue
        strangers.difference_update(cells)
        experiments += _grid(folder, name, {cell: cells[cell] for cell in cells if cell in on_disk}, gaps)
        if untrained := len(set(cells) - on_disk):
            gaps.append(Gap(f"{untrained} of the {counted(len(cells), 'cell')} of experiment {name}", gap.command))
    if strangers:
        gaps.append(
            Gap(f"left out, since params.yaml names them no more: {_named(sorted(strangers))} (below results/)")
        )
    return [experiment for experiment in experiments if experiment is not None]


def _cells(section: Mapping, corpora: Sequence[str]) -> dict[str, Mapping]:
    """The whole section of every cell, by the cell's name."""
    from strata.trainers import spec
    from strata.trainers.search import grid

    cells = grid.cells(spec.Experiment.model_validate(section), corpora)
    return {name: cell.model_dump(mode="json") for name, cell in cells.items()}


def _grid(folder: Path, section: str, cells: Mapping[str, Mapping], gaps: list[Gap]) -> list[ExperimentResult]:
    """The cells on disk; those that cannot be read, or were trained before the section changed, are one gap each."""
    found, broken, changed = [], [], 0
    for name, config in cells.items():
        path = folder / "results" / name / FILE
        try:
            cell = read_metrics(path, name, section)
        except BROKEN as error:
            broken.append(unreadable(path, folder, error))
            continue
        if cell.config == config:
            found.append(cell)
        else:
            changed += 1
    if changed:
        were = noun(changed, "was", "were")
        what = (
            f"{counted(changed, 'cell')} of experiment {section}, which {were} trained before its section was changed"
        )
        gaps.append(Gap(what, f"strata train {quote(section)}"))
    if broken:
        count = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
        gaps.append(Gap(f"cells of experiment {section} ({broken[0]}{count})", f"strata train {quote(section)}"))
    return found


def _named(strangers: Sequence[str]) -> str:
    if len(strangers) <= NAMED_STRANGERS:
        return ", ".join(strangers)
    return f"{len(strangers)} results, such as {', '.join(strangers[:2])}"


def read_alone(path: Path, name: str) -> ExperimentResult:
    """What one `metrics.json` holds, and the tables beside it.

    Raises:
        ValueError, KeyError, TypeError, AttributeError or OSError: a file that is not what it should be.
    """
    return read_metrics(path, name, name).with_tables()


def read_metrics(path: Path, name: str, section: str) -> ExperimentResult:
    """What one `metrics.json` holds, without the tables beside it.

    Args:
        path: the file.
        name: folder below `results/`.
        section: name in `params.yaml`.

    Raises:
        ValueError, KeyError, TypeError, AttributeError or OSError: a file that is not what it should be.
    """
    metrics = json_object(path)
    tasks = {
        task: {metric: mapping(values) for metric, values in scores.items()}
        for task, scores in metrics["tasks"].items()
    }
    kinds = {task: str(mapping(metrics.get("kinds")).get(task) or "classification") for task in tasks}
    primary = mapping(metrics.get("primary"))
    config = mapping(metrics.get("config"))
    return ExperimentResult(
        name=name,
        section=section,
        setup=str(metrics.get("setup") or name),
        views=texts(metrics.get("views") or ()),
        tasks=tasks,
        kinds=kinds,
        primary={
            task: str(primary.get(task) or KINDS.get(kinds[task], KINDS["classification"]).metrics[0]) for task in tasks
        },
        chance={task: mapping(scores) for task, scores in mapping(metrics.get("chance")).items()},
        classes={t: names for t, names in mapping(metrics.get("classes")).items() if isinstance(names, list)},
        config=config,
        corpora=texts(metrics.get("corpora") or config.get("corpora") or ()),
        folds=mapping(metrics.get("folds")),
        truth=mapping(metrics.get("truth")),
        num_utterances=metrics.get("num_utterances"),
        num_folds=metrics.get("num_folds"),
        seeds=tuple(metrics.get("seeds") or ()),
        layers={v: texts(names) for v, names in mapping(metrics.get("layers")).items() if isinstance(names, list)},
        seconds=mapping(metrics.get("seconds")),
        provenance=mapping(metrics.get("provenance")),
        folder=path.parent,
        num_tested=mapping(metrics.get("num_tested")),
        num_trials=metrics.get("num_trials"),
    )


def write_metrics(
    folder: Path,
    title: str,
    scored: Mapping[str, Any],
    *,
    corpora: Sequence[str],
    layers: Mapping[str, Sequence[str]],
    config: Mapping[str, Any],
    seconds: float,
    provenance: Mapping[str, Any],
    identity: str,
    grid: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Writes `metrics.json`, which says that all that lies beside it is there and belongs together.

    Args:
        folder: of the result.
        title: the folder's name below `results/`.
        scored: what the trainers say of it: setup, views, tasks, kinds, chance, folds and the like.
        corpora: those that its utterances come from.
        layers: view → the layers that were read.
        config: its section of params.yaml.
        seconds: that it took.
        provenance: where it comes from.
        identity: a hash of all that it follows from.
        grid: for each field of a grid the part of the cell's name that tells its value.
    """
    content = {
        "experiment": title,
        **scored,
        "corpora": list(corpora),
        "grid": dict(grid),
        "layers": {view: list(names) for view, names in layers.items()},
        "config": config,
        "seconds": {"total": round(seconds, 3)},
        "provenance": provenance,
        "cell": identity,
    }
    write_json(folder / FILE, content)


def _predictions(path: Path) -> pd.DataFrame:
    """The columns that the report needs; the probabilities, by far the largest, stay on disk."""
    import pandas as pd
    from pyarrow.parquet import read_schema

    names = read_schema(path).names
    columns = [name for name in names if name == "utterance" or name.endswith((".true", ".predicted"))]
    return pd.read_parquet(path, columns=columns)
