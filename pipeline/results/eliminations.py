"""What recursive layer eliminations found: the schema of the files below results/eliminate, their reader and writer.

`strata eliminate` writes elimination.json, `strata layers` what a cut saves and that a view was narrowed beside it. A
file of an earlier version, without spreads, folds and paths, is read too: what it does not tell is empty. Knows nothing
of tables, figures or HTML.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any

from strata.pipeline.results.reading import BROKEN, Gap, json_object, mapping, read, texts
from strata.pipeline.results.writing import write_json
from strata.pipeline.show.names import layer_height
from strata.pipeline.show.tables import is_number

FILE = "elimination.json"
SAVINGS = "savings.json"
"""Beside it, of `strata layers`: for each quantity what it is of the whole and of the cut model."""
NARROWED = "written.json"
"""Beside it, of `strata layers --write`: the view, and its section as it was written into params.yaml."""


@dataclass(frozen=True)
class RoundResult:
    """One training of a recursive layer elimination."""

    number: int
    layers: tuple[str, ...]
    weights: Mapping[str, float]
    valid: Mapping[str, float]
    """`mean` and one score per task; the choice is made on these."""
    test: Mapping[str, float]
    dropped: str | None
    """The layer that goes after it; None after the last one."""
    weights_sd: Mapping[str, float]
    """Over the seeds; empty where there is one."""
    valid_sd: Mapping[str, float]
    """Over the seeds; empty where there is one."""
    test_sd: Mapping[str, float]
    """Over the folds; of a single fold over its seeds; empty where there is one of both."""

    @property
    def content(self) -> dict[str, Any]:
        """As the file has it."""
        return {
            "round": self.number,
            "layers": list(self.layers),
            "weights": dict(self.weights),
            "weights_sd": dict(self.weights_sd),
            "valid": dict(self.valid),
            "valid_sd": dict(self.valid_sd),
            "test": dict(self.test),
            "test_sd": dict(self.test_sd),
            "dropped": self.dropped,
        }


@dataclass(frozen=True)
class Nested:
    """What came of it where every fold chose its layers by itself, so that its test data had no part in the choice."""

    tasks: Mapping[str, Mapping[str, Any]]
    """Task, and `mean` for their mean → `mean`, `sd` and `folds` of its test score."""
    kept: tuple[int, ...]
    """How many layers each fold kept."""
    poolings: tuple[str, ...]
    """Which pooling each fold chose."""

    @property
    def content(self) -> dict[str, Any]:
        """As the file has it."""
        tasks = {task: dict(scores) for task, scores in self.tasks.items() if task != "mean"}
        told = {"test": dict(self.tasks["mean"]), "tasks": tasks}
        return {**told, "kept": list(self.kept), "poolings": list(self.poolings)}


@dataclass(frozen=True)
class Trail:
    """One elimination in brief: under one pooling, in one fold or on all utterances."""

    pooling: str
    fold: int | None
    """None: all utterances, which choose."""
    valid: tuple[float, ...]
    """Mean score of each round."""
    test: tuple[float | None, ...]
    best_round: int
    dropped: tuple[str, ...] = ()
    """The layer of the least weight in each round, which goes unless it is the last one."""

    @property
    def content(self) -> dict[str, Any]:
        """As the file has it."""
        lists = {"dropped": list(self.dropped), "valid": list(self.valid), "test": list(self.test)}
        return {"pooling": self.pooling, "fold": self.fold, **lists, "best_round": self.best_round}


@dataclass(frozen=True)
class EliminationResult:
    """The outcome of one recursive layer elimination."""

    name: str
    view: str
    tasks: tuple[str, ...]
    pooling: str
    """The one chosen, of several."""
    layer_names: tuple[str, ...]
    """All layers of the view, in the model's order."""
    rounds: tuple[RoundResult, ...]
    support: tuple[str, ...]
    """The layers kept, in the model's order."""
    best_round: int
    """From 1, which is the round of all layers."""
    config: Mapping[str, Any]
    seconds: float | None
    sizes: Mapping[str, int]
    """Utterances per split: `train`, `valid`, `test`."""
    provenance: Mapping[str, Any]
    nested: Nested | None = None
    trails: tuple[Trail, ...] = ()
    ranking: Mapping[str, int] = field(default_factory=dict)
    """1 for a layer that is kept, then upwards to the one that went first."""
    identity: str = ""
    """A hash of all that it follows from."""
    resolved: Mapping[str, Any] = field(default_factory=dict)
    """What it follows from of its section, whose defaults may have changed since: see `trainers.section`."""
    folder: Path = Path()
    """Where its files lie."""
    savings: Mapping[str, Any] | None = None
    """What a cut upstream saves, as `strata layers` wrote it into `savings.json` beside; None where it did not."""

    @property
    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """View → the layers that were read, as an experiment has it."""
        return {self.view: self.layer_names}

    @property
    def file(self) -> Path:
        """That it is written in."""
        return self.folder / FILE

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Of the store that the layers were read from; empty where the file does not tell."""
        return mapping(mapping(mapping(self.provenance.get("views")).get(self.view)).get("fingerprint"))

    @property
    def highest(self) -> str:
        """The highest layer kept, after which the model can be cut."""
        return self.support[-1]

    @property
    def is_cut(self) -> bool:
        """Whether a layer above all those kept goes."""
        return self.highest != self.layer_names[-1]

    @property
    def dropped(self) -> list[str]:
        """The layers that go, the first one first."""
        gone = [layer for layer in self.layer_names if layer not in self.support]
        return sorted(gone, key=lambda layer: -self.ranking[layer])

    @property
    def chosen_on_all(self) -> bool:
        """Whether the choice was made on all utterances, for want of a split that the corpus gives."""
        return not mapping(self.config.get("folds")).get("given")

    @property
    def nested_mean(self) -> Mapping[str, Any]:
        """The mean test score of what every fold chose without it: `mean`, `sd`, `folds`; empty without such scores."""
        return self.nested.tasks["mean"] if self.nested else {}

    @property
    def all_layers(self) -> RoundResult:
        """The first round."""
        return self.rounds[0]

    @property
    def best(self) -> RoundResult:
        """The chosen round."""
        return next(r for r in self.rounds if r.number == self.best_round)

    @property
    def scored(self) -> list[str]:
        """`mean`, then the tasks."""
        return ["mean", *(key for key in self.rounds[0].valid if key != "mean")]

    @property
    def num_seeds(self) -> int:
        """Models per round."""
        return num_seeds(self.config) or 1

    @property
    def num_folds(self) -> int:
        """Folds that test scores are means over; 0 where the file does not tell."""
        return len(self.nested.kept) if self.nested else 0

    @property
    def by_weights(self) -> bool:
        """Whether layers went by their learned weights, and not by what their loss costs."""
        return self.config.get("importance") != "ablation" and self.pooling in ("", "weighted")

    @property
    def whole(self) -> dict[str, Trail]:
        """Pooling → the elimination that chooses among poolings and rounds."""
        return {trail.pooling: trail for trail in self.trails if trail.fold is None}

    def tests(self, pooling: str, number: int) -> list[float]:
        """Test scores of one round, from 1, in every fold that has them."""
        trails = [t for t in self.trails if t.pooling == pooling and t.fold is not None and len(t.test) >= number]
        return [found for trail in trails if is_number(found := trail.test[number - 1])]


def num_seeds(config: Mapping) -> int:
    """How many models each round of an elimination trained, by its section; 0 where that does not tell."""
    seeds = config.get("seeds")
    return len(seeds) if isinstance(seeds, list) else 0


def known_spreads(content: Mapping) -> tuple[str, ...]:
    """Which spreads of a file are of several values; earlier versions wrote 0 for that of a single one.

    Args:
        content: of an elimination.json.
    """
    one_seed = num_seeds(mapping(content.get("config"))) == 1
    one_fold = len(mapping(content.get("nested")).get("kept") or ()) < 2
    return ("weights_sd", "valid_sd") * (not one_seed) + ("test_sd",) * (not (one_seed and one_fold))


def collect(folder: Path, names: Iterable[str], gaps: list[Gap]) -> list[EliminationResult]:
    """The outcomes of these eliminations of a study; adds a gap for what is missing.

    What a cut saves is absent where nobody asked, or where that cannot be read.
    """
    found = []
    for name in names:
        path = folder / "results" / "eliminate" / name / FILE
        gap = Gap(f"layer elimination {name}", f"strata eliminate {quote(name)}")
        elimination, savings = read(read_elimination, path, folder, gaps, gap), path.with_name(SAVINGS)
        if elimination is not None and savings.exists():
            gap = Gap(f"what elimination {name} saves", f"strata layers results/eliminate/{quote(name)}")
            elimination = replace(elimination, savings=read(json_object, savings, folder, gaps, gap))
        found.append(elimination)
    return [elimination for elimination in found if elimination is not None]


def read_elimination(path: Path) -> EliminationResult:
    """What one `elimination.json` holds.

    Raises:
        ValueError, KeyError, TypeError or OSError: a file that is not what it should be.
    """
    found = json_object(path)
    spreads = known_spreads(found)
    rounds = tuple(_round(told, spreads) for told in found["rounds"])
    layer_names, support = texts(found["layer_names"]), texts(found["support"])
    if not support:
        raise ValueError("it keeps no layer")
    if found["best_round"] not in {r.number for r in rounds}:
        raise ValueError(f"best_round {found['best_round']} is not among its rounds")
    named = {layer for r in rounds for layer in r.layers} | set(support)
    if unknown := named - set(layer_names):
        raise ValueError(f"layers {sorted(unknown)} are not among its layer_names")
    return EliminationResult(
        name=path.parent.name,
        view=str(found.get("view", "")),
        tasks=texts(found.get("tasks") or ()),
        pooling=str(found.get("pooling", "")),
        layer_names=tuple(sorted(layer_names, key=layer_height)),
        rounds=rounds,
        support=tuple(sorted(support, key=layer_height)),
        best_round=found["best_round"],
        config=mapping(found.get("config")),
        seconds=found.get("seconds"),
        sizes={split: found[f"num_{split}"] for split in ("train", "valid", "test") if f"num_{split}" in found},
        provenance=mapping(found.get("provenance")),
        nested=_nested(found["nested"], "test_sd" in spreads) if found.get("nested") else None,
        trails=tuple(map(_trail, found.get("paths") or ())),
        ranking=mapping(found.get("ranking")),
        identity=str(found.get("cell") or ""),
        resolved=mapping(found.get("resolved")),
        folder=path.parent,
    )


def write_elimination(found: EliminationResult) -> None:
    """Writes `elimination.json` into its folder, and removes what was said of the outcome before."""
    for file in (NARROWED, SAVINGS):
        (found.folder / file).unlink(missing_ok=True)
    content = {
        "name": found.name,
        "view": found.view,
        "tasks": list(found.tasks),
        "pooling": found.pooling,
        "layer_names": list(found.layer_names),
        "support": list(found.support),
        "ranking": dict(found.ranking),
        "best_round": found.best_round,
        "rounds": [each.content for each in found.rounds],
        "nested": found.nested.content if found.nested else None,
        "paths": [each.content for each in found.trails],
        **{f"num_{split}": count for split, count in found.sizes.items()},
        "config": dict(found.config),
        "seconds": found.seconds,
        "provenance": dict(found.provenance),
        "cell": found.identity,
        "resolved": dict(found.resolved),
    }
    write_json(found.file, content)


def write_savings(folder: Path, savings: Mapping[str, Any]) -> None:
    """Leaves what a cut saves beside the elimination; what was timed once stays where this was not."""
    if savings.get("rounds") or not (folder / SAVINGS).exists():
        write_json(folder / SAVINGS, savings)


def write_narrowed(folder: Path, view: str, section: Mapping[str, Any]) -> None:
    """Notes that a view was narrowed to the layers kept, and the section that it has now."""
    write_json(folder / NARROWED, {"view": view, "section": section})


def read_narrowed(folder: Path) -> tuple[str, Mapping[str, Any], EliminationResult] | None:
    """The view that was narrowed to the layers kept, its section since then, and that elimination.

    None where no view was narrowed, or where that cannot be read.
    """
    try:
        written = json_object(folder / NARROWED)
        return str(written["view"]), mapping(written["section"]), read_elimination(folder / FILE)
    except BROKEN:
        return None


def _round(found: Mapping, spreads: Collection[str]) -> RoundResult:
    told = {key: mapping(found.get(key)) for key in ("weights", "valid", "test")}
    return RoundResult(
        number=found["round"],
        layers=texts(found["layers"]),
        dropped=None if found.get("dropped") is None else str(found["dropped"]),
        **told,
        **{f"{key}_sd": _numbers(found.get(f"{key}_sd")) if f"{key}_sd" in spreads else {} for key in told},
    )


def _numbers(found: Any) -> dict[str, float]:
    return {key: value for key, value in mapping(found).items() if is_number(value)}


def _nested(found: Mapping, has_spread: bool) -> Nested:
    tasks = {"mean": mapping(found["test"])} | {t: mapping(v) for t, v in mapping(found.get("tasks")).items()}
    return Nested(
        tasks=tasks if has_spread else {task: {**scores, "sd": None} for task, scores in tasks.items()},
        kept=tuple(int(count) for count in found["kept"]),
        poolings=texts(found.get("poolings") or ()),
    )


def _trail(found: Mapping) -> Trail:
    fold = found.get("fold")
    return Trail(
        pooling=str(found["pooling"]),
        fold=None if fold is None else int(fold),
        valid=tuple(found["valid"]),
        test=tuple(found.get("test") or ()),
        best_round=int(found["best_round"]),
        dropped=texts(found.get("dropped") or ()),
    )
