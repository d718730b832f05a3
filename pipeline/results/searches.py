"""Searches over the fields of an experiment: the schema of what `strata tune` writes below results/tune, both ways.

Knows nothing of tables, figures or HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from strata.pipeline.results.reading import Gap, json_object, mapping, read, texts
from strata.pipeline.results.writing import write_json
from strata.pipeline.show.tables import is_number

FILE = "tune.json"
STATES = ("complete", "pruned", "failed")
DIRECTION = re.compile(r"[\s,;]*\b(higher|lower) is better\b")
"""What an objective says of its direction, which the report tells in its own words."""


@dataclass(frozen=True)
class TrialResult:
    """One training with values that the search chose."""

    number: int
    state: str
    """`complete`; `pruned`, ended early, mostly without a value; or `failed`."""
    params: Mapping[str, Any]
    value: float | None
    """Of the objective; None where it is not known."""
    tasks: Mapping[str, Any]
    """Validation score per task."""
    epochs: int | None
    seconds: float | None
    reason: str = ""
    """Why it failed or was pruned, or which trial it repeats; empty where there is nothing to tell."""

    @property
    def content(self) -> dict[str, Any]:
        """As the file has it."""
        told = {"number": self.number, "state": self.state, "params": dict(self.params), "value": self.value}
        took = {"epochs": self.epochs, "seconds": self.seconds, "reason": self.reason or None}
        return {**told, "tasks": dict(self.tasks), **took}

    @property
    def is_complete(self) -> bool:
        """Whether it ran to its end with a value that can be compared."""
        return self.state == "complete" and self.value is not None


@dataclass(frozen=True)
class SearchResult:
    """A search over fields of an experiment."""

    name: str
    experiment: str
    """Whose section is the starting point."""
    way: str
    """`bayesian`, `grid` or `random`."""
    space: Mapping[str, Any]
    """Field → the list of its values, or a mapping of `low`, `high`, `log` and `step`."""
    objective: str
    """What trials are compared by."""
    highest_first: bool
    """Whether a higher value of it is a better one."""
    trials: tuple[TrialResult, ...]
    best: int | None
    """Number of the best trial."""
    start: float | None
    """The objective of the section as it stands; None where it was not tried, or has no value."""
    test: Mapping[str, Any]
    """`tasks` and `mean`: what the best came to on test data, which the search never saw."""
    importance: Mapping[str, float]
    """Field → its share of the objective's variance."""
    seconds: float | None
    config: Mapping[str, Any]
    layers: Mapping[str, tuple[str, ...]]
    provenance: Mapping[str, Any]
    start_params: Mapping[str, Any] | None = None
    """The values that the section has; None where they lie outside of the space."""
    identity: str = ""
    """A hash of all that it follows from."""

    @property
    def complete(self) -> list[TrialResult]:
        """The trials that can be compared, in their order."""
        return [trial for trial in self.trials if trial.is_complete]

    @property
    def winner(self) -> TrialResult | None:
        """The best trial; None where none was completed."""
        return next((trial for trial in self.complete if trial.number == self.best), None)

    @property
    def ranked(self) -> list[TrialResult]:
        """The complete trials, the best first; of equal ones the one that the search named."""
        sign = -1 if self.highest_first else 1
        return sorted(self.complete, key=lambda trial: (sign * trial.value, trial.number != self.best, trial.number))

    @property
    def is_surface(self) -> bool:
        """Whether two fields take values of lists, so that every trial has a place in one map."""
        return len(self.space) == 2 and all(isinstance(values, list) for values in self.space.values())


def collect(folder: Path, names: Iterable[str], gaps: list[Gap]) -> list[SearchResult]:
    """The outcomes of these searches of a study; adds a gap for what is missing."""
    found = []
    for name in names:
        gap = Gap(f"search {name}", f"strata tune {quote(name)}")
        found.append(read(read_search, folder / "results" / "tune" / name / FILE, folder, gaps, gap))
    return [search for search in found if search is not None]


def read_search(path: Path) -> SearchResult:
    """What one `tune.json` holds.

    Raises:
        ValueError, KeyError, TypeError or OSError: a file that is not what it should be.
    """
    found = json_object(path)
    best, start = (mapping(found.get(key)) for key in ("best", "start"))
    trials, objective = tuple(map(_trial, found["trials"])), str(found.get("objective") or "")
    search = SearchResult(
        name=path.parent.name,
        experiment=str(found.get("experiment", "")),
        way=str(found.get("search", "")),
        space=dict(found["space"]),
        objective=DIRECTION.sub("", objective) or "value",
        highest_first="lower is better" not in objective,
        trials=trials,
        best=best.get("number"),
        start=start["value"] if is_number(start.get("value")) else None,
        test=mapping(found.get("test")),
        importance={field: share for field, share in mapping(found.get("importance")).items() if is_number(share)},
        seconds=found.get("seconds"),
        config=mapping(found.get("config")) or {key: found.get(key) for key in ("experiment", "search", "space")},
        layers={v: texts(names) for v, names in mapping(found.get("layers")).items() if isinstance(names, list)},
        provenance=mapping(found.get("provenance")),
        start_params=start.get("params"),
        identity=str(found.get("cell") or ""),
    )
    if search.complete and search.winner is None:
        raise ValueError(f"its best trial {search.best} is not among its complete trials")
    return search


def write_search(folder: Path, found: SearchResult) -> None:
    """Writes `tune.json` into the folder of its results."""
    best, better = found.winner, "higher" if found.highest_first else "lower"
    start = None if found.start_params is None else {"params": dict(found.start_params), "value": found.start}
    content = {
        "name": found.name,
        "experiment": found.experiment,
        "search": found.way,
        "space": dict(found.space),
        "objective": f"{found.objective}, {better} is better",
        "trials": [trial.content for trial in found.trials],
        "best": best and {"number": best.number, "params": dict(best.params), "value": best.value},
        "start": start,
        "test": dict(found.test),
        "importance": dict(found.importance),
        "config": dict(found.config),
        "seconds": found.seconds,
        "provenance": dict(found.provenance),
        "cell": found.identity,
    }
    write_json(folder / FILE, content)


def _trial(found: Mapping) -> TrialResult:
    state = str(found["state"])
    if state not in STATES:
        raise ValueError(f"expected trials of the states {', '.join(STATES)}, found {state!r}")
    return TrialResult(
        number=int(found["number"]),
        state=state,
        params=dict(found["params"]),
        value=found["value"] if is_number(found.get("value")) else None,
        tasks=mapping(found.get("tasks")),
        epochs=found.get("epochs"),
        seconds=found.get("seconds"),
        reason=str(found.get("reason") or ""),
    )
