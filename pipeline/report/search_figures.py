"""Figures of a search: its values trial by trial, and value against each field, or the surface over two of them.

Complete trials are dots of the first colour, pruned ones crosses of the second, failed ones grey; those without a value
stand on the lower edge. Knows no files and no page.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import axes as plots
from matplotlib import figure as canvas
from matplotlib.colors import to_rgb
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from strata.pipeline.progress import counted
from strata.pipeline.report.figures import Figure
from strata.pipeline.report.search_tables import value
from strata.pipeline.report.svg import INK, MUTED, PAPER, RULE, SERIES, draw
from strata.pipeline.results.searches import SearchResult, TrialResult
from strata.pipeline.show.names import short
from strata.pipeline.show.tables import is_number, number

SMALL = (300, 240)
"""CSS pixels of a field's panel: three stand side by side."""
MOST_VALUES = 8
"""Values of a list up to which an axis names them in full."""


def history(search: SearchResult) -> Figure:
    """The value of every trial, and the best that was known by then."""
    pick = np.fmax if search.highest_first else np.fmin
    complete = search.complete

    def paint(figure: canvas.Figure) -> None:
        axes = figure.subplots()
        if complete:
            best = pick.accumulate([trial.value for trial in complete])
            numbers = [trial.number + 1 for trial in complete]
            ends = [*numbers, max(trial.number for trial in search.trials) + 1]
            axes.step(ends, [*best, best[-1]], where="post", color=INK, linewidth=1.2, label="best so far")
        _dots(axes, search, lambda trial: trial.number + 1)
        if search.start is not None:
            axes.axhline(search.start, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="as it was")
        axes.set(xlabel="trial", ylabel=short(search.objective, 40))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(True, axis="y")
        figure.legend(loc="outside upper right", ncols=3)

    better = "higher" if search.highest_first else "lower"
    caption = f"Every trial by its {search.objective}, {better} is better; validation data only."
    title = f"Values of the {counted(len(search.trials), 'trial')} of search {search.name}"
    return Figure(draw(f"search {search.name}", title, (490, 300), paint), caption, 490)


def panel(search: SearchResult, field: str) -> Figure:
    """Value of a trial against the value of one field."""
    space, shares = search.space[field], search.importance
    places = _places(space) if isinstance(space, list) else {}

    def place(trial: TrialResult) -> float:
        told = trial.params.get(field)
        return places.get(value(told), np.nan) if places else float(told) if is_number(told) else np.nan

    def paint(figure: canvas.Figure) -> None:
        axes = figure.subplots()
        _dots(axes, search, place)
        if places:
            _name_values(axes.set_xticks, places)
            axes.set_xlim(-0.5, len(places) - 0.5)
        elif isinstance(space, Mapping) and space.get("log"):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel=short(field, 30), ylabel=short(search.objective, 38))
        axes.grid(True, axis="y")

    share = f", which explains {100 * shares[field]:.0f} % of the differences" if field in shares else ""
    caption = f"Against {field}{share}; validation data."
    title = f"Values of the trials of search {search.name} against {field}"
    return Figure(draw(f"search {search.name} {field}", title, SMALL, paint), caption, SMALL[0])


def surface(search: SearchResult) -> Figure:
    """The best value at every place of a grid of two fields, the darker the better."""
    (down, row), (across, column) = ((field, _places(values)) for field, values in search.space.items())
    found = np.full((len(row), len(column)), np.nan)
    for trial in reversed(search.ranked):  # the best of a place last
        at = row.get(value(trial.params.get(down))), column.get(value(trial.params.get(across)))
        if None not in at:
            found[at] = trial.value
    if np.isnan(found).all():
        raise ValueError("no trial has a place among the values of its space")
    low, high = np.nanmin(found), np.nanmax(found)
    share = np.nan_to_num((found - low) / (high - low) if high > low else np.where(np.isnan(found), np.nan, 1.0))
    share = np.where(np.isnan(found), 0.0, 0.04 + 0.96 * (share if search.highest_first or high == low else 1 - share))
    printed = max(found.shape) <= MOST_VALUES
    width = 110 + (48 if printed else max(14, 300 // len(column))) * len(column)
    height = 90 + (34 if printed else max(14, 300 // len(row))) * len(row)

    def paint(figure: canvas.Figure) -> None:
        axes = figure.subplots()
        axes.imshow(np.dstack([np.broadcast_to(to_rgb(SERIES[0]), (*share.shape, 3)), share]), aspect="auto",
                    interpolation="none")  # fmt: skip
        axes.spines[:].set(visible=True, color=RULE)
        axes.tick_params(length=0)
        _name_values(axes.set_xticks, column)
        _name_values(axes.set_yticks, row)
        axes.set(xlabel=short(across, 30), ylabel=short(down, 30))
        for (i, j), each in np.ndenumerate(found):
            if printed and np.isfinite(each):
                axes.text(j, i, number(each, 3), ha="center", va="center", fontsize=10,
                          color=PAPER if share[i, j] > 0.55 else INK)  # fmt: skip

    caption = f"{search.objective} by {down} and {across}, on validation data only; the darker the better, "
    caption += f"{number(low, 4)} to {number(high, 4)}."
    width, height = max(width, 300), max(height, 200)
    title = f"Surface of search {search.name} over {down} and {across}"
    return Figure(draw(f"surface {search.name}", title, (width, height), paint), caption, width)


def _dots(axes: plots.Axes, search: SearchResult, place) -> None:
    """All trials at their values, or on the lower edge without one; the best is ringed."""
    looks = {
        "complete": {"marker": "o", "color": SERIES[0], "markersize": 5, "markeredgewidth": 0, "alpha": 0.75},
        "pruned": {"marker": "x", "color": SERIES[1], "markersize": 5},
        "failed": {"marker": "x", "color": MUTED, "markersize": 5},
    }
    for state, look in looks.items():
        members = [trial for trial in search.trials if trial.state == state]
        known = [(place(trial), trial.value) for trial in members if trial.value is not None]
        edge = [(place(trial), 0.03) for trial in members if trial.value is None]
        if known:
            axes.plot(*zip(*known, strict=True), linestyle="", label=state, **look)
        if edge:
            label = None if known else state
            axes.plot(*zip(*edge, strict=True), linestyle="", label=label, transform=axes.get_xaxis_transform(), **look)
    if search.winner:
        axes.plot(place(search.winner), search.winner.value, "o", markersize=10, markerfacecolor="none",
                  markeredgecolor=INK, markeredgewidth=1.2)  # fmt: skip


def _places(values: list) -> dict[str, int]:
    """Where each value of a list stands on its axis, by its name."""
    return {value(each): place for place, each in enumerate(values)}


def _name_values(set_ticks, places: Mapping[str, int]) -> None:
    """Names the values of a list at their places, of many every second, third, …"""
    step = 1 + (len(places) - 1) // MOST_VALUES
    names = [*places][::step]
    set_ticks([places[name] for name in names], [short(name, 10) for name in names])
