"""What a search came to, in words and tables: its best trials, all of them, and what the best is worth on test data.

Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from strata.pipeline.progress import counted
from strata.pipeline.results.reading import mapping
from strata.pipeline.results.searches import SearchResult, TrialResult
from strata.pipeline.show.tables import Cell, Column, Table, duration, is_number, number

MOST_SHOWN = 10
"""Trials that the page shows at once; all of them open on request."""
DIGITS = 4
"""After the point, of objectives and scores."""


def subtitle(search: SearchResult) -> str:
    """The outcome in one line."""
    counts = {state: sum(trial.state == state for trial in search.trials) for state in ("pruned", "failed")}
    encoder = mapping(search.config.get("experiment")).get("encoder")
    facts = [
        f"experiment {search.experiment}",
        *([f"encoder {encoder}"] if encoder and "encoder" not in search.space else []),
    ]
    facts += [f"{search.way} search", counted(len(search.trials), "trial")]
    facts += [f"{count} {state}" for state, count in counts.items() if count]
    if search.winner:
        facts.append(f"best {search.objective} {number(search.winner.value, DIGITS)}")
    if told := tested(search):
        facts.append(f"on test: {told}")
    return " · ".join(facts)


def outcome(search: SearchResult) -> str:
    """The best values and what they came to, for a terminal."""
    if search.winner is None:
        return f"none of its trials was completed ({len(search.trials)} begun)"
    chosen = ", ".join(f"{field} {value(told)}" for field, told in search.winner.params.items())
    told = f"; test: {tested(search)}" if tested(search) else ""
    return (
        f"{chosen} (trial {search.best} of {len(search.trials)}; "
        f"{search.objective} {number(search.winner.value, DIGITS)}{told})"
    )


def tested(search: SearchResult) -> str:
    """The best trial's test scores; empty where they are not told."""
    scores = {**mapping(search.test.get("tasks")), "mean": search.test.get("mean")}
    told = {name: found for name, value in scores.items() if (found := _score(value))}
    if len(told) == 2 and "mean" in told:  # of one task it is the score itself
        del told["mean"]
    return ", ".join(f"{name} {found}" for name, found in told.items())


def best_trials(search: SearchResult) -> Table:
    """The best of the completed trials, the first of them in bold."""
    shown = search.ranked[:MOST_SHOWN]
    several = len(search.complete) > 1
    rows = tuple(_row(search, trial, several and trial.number == search.best) for trial in shown)
    return Table(
        f"The best trials by {search.objective}", _columns(search), rows, foot=_start(search), notes=_notes(search)
    )


def all_trials(search: SearchResult) -> Table | None:
    """Every trial, in the order in which they were begun; None where the best are all there are."""
    if len(search.ranked[:MOST_SHOWN]) == len(search.trials):
        return None
    rows = tuple(_row(search, trial, trial.number == search.best) for trial in search.trials)
    return Table("All trials", _columns(search), rows)


def value(told: Any) -> str:
    """The value of a field, as a reader would write it."""
    if is_number(told) and not isinstance(told, int):
        return f"{told:.4g}"
    if isinstance(told, Mapping):
        return ", ".join(f"{key} {value(inner)}" for key, inner in told.items())
    if isinstance(told, Sequence) and not isinstance(told, str):
        return " ".join(map(value, told))
    return str(told)


def _columns(search: SearchResult) -> tuple[Column, ...]:
    fields = [Column(field, numeric=_is_numeric(search, field)) for field in search.space]
    arrow = "↑" if search.highest_first else "↓"
    scored = [Column(task, "validation", numeric=True) for task in _tasks(search)]
    return (
        Column("trial", numeric=True, lowest_first=True),
        *fields,
        Column(f"score {arrow}", "validation", numeric=True, lowest_first=not search.highest_first),
        *scored,
        Column("epochs", numeric=True),
        Column("took", numeric=True),
        Column("outcome"),
    )


def _row(search: SearchResult, trial: TrialResult, best: bool) -> tuple[Cell, ...]:
    fields = []
    for field in search.space:
        told = trial.params.get(field)
        fields.append(Cell("–" if told is None else value(told), value=told if is_number(told) else None))
    outcome = f"{trial.state}: {trial.reason}" if trial.reason else trial.state
    return (
        Cell(str(trial.number + 1), best=best),
        *fields,
        Cell(number(trial.value, DIGITS), best=best),
        *(Cell(_score(trial.tasks.get(task)) or "–") for task in _tasks(search)),
        Cell(number(trial.epochs, 0)),
        Cell(duration(trial.seconds), value=trial.seconds if is_number(trial.seconds) else None),
        Cell(outcome),
    )


def _start(search: SearchResult) -> tuple[tuple[Cell, ...], ...]:
    """The experiment as its section has it, below the rule."""
    if search.start is None:
        return ()
    fields = [Cell("")] * len(search.space)
    rest = [Cell("")] * (len(_tasks(search)) + 3)
    return ((Cell("as it was"), *fields, Cell(number(search.start, DIGITS)), *rest),)


def _notes(search: SearchResult) -> tuple[str, ...]:
    notes = ["Trials are trained and compared on validation data only."]
    if told := tested(search):
        notes.append(f"The best, scored once on test data: {told}.")
    if search.importance:
        ordered = sorted(search.importance.items(), key=lambda item: -item[1])
        notes.append("Share of the differences that a field explains: " + _shares(ordered) + ".")
    return tuple(notes)


def _shares(ordered: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{field} {100 * share:.0f} %" for field, share in ordered)


def _tasks(search: SearchResult) -> list[str]:
    return list(dict.fromkeys(task for trial in search.trials for task in trial.tasks if task != "mean"))


def _is_numeric(search: SearchResult, field: str) -> bool:
    return all(is_number(trial.params.get(field)) or field not in trial.params for trial in search.trials)


def _score(told: Any) -> str:
    """A score, or the scores by several metrics; empty where there is none."""
    if is_number(told):
        return number(told, DIGITS)
    found = mapping(told)
    if is_number(found.get("mean")):
        return number(found["mean"], DIGITS)
    return " ".join(f"{metric} {inner}" for metric, each in found.items() if (inner := _score(each)))
