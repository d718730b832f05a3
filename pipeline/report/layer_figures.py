"""Figures of a layer elimination: weights of the layers (wavCSE, Fig. 2), scores by round (Fig. 3), poolings.

Validation, which chooses, is drawn in the first colour and test in the second. Bands and bars are standard deviations.
Knows no files and no page.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import axes as plots
from matplotlib import figure as canvas
from matplotlib.ticker import MaxNLocator

from strata.pipeline.progress import counted
from strata.pipeline.report.figures import Figure
from strata.pipeline.report.layer_tables import spread_of
from strata.pipeline.report.poolings import NAMES
from strata.pipeline.report.svg import INK, MUTED, SERIES, draw
from strata.pipeline.results.eliminations import EliminationResult, RoundResult
from strata.pipeline.show.names import short

LINES = ("-", "--", ":")
"""Line styles: colours times styles poolings can be told apart."""


def layer_weights(elimination: EliminationResult) -> Figure:
    """Weights that the layers had before any was dropped (wavCSE, Fig. 2); the layers kept in the end stand out."""
    names, first = elimination.layer_names, elimination.rounds[0]
    kept = [layer in elimination.support for layer in names]
    several = elimination.num_seeds > 1 and bool(first.weights_sd)

    def paint(figure: canvas.Figure) -> None:
        axes = figure.subplots()
        for choice, colour, label in ((True, SERIES[0], "kept"), (False, MUTED, "dropped")):
            places = [i for i, layer in enumerate(names) if kept[i] is choice and layer in first.weights]
            if places:
                heights = [first.weights[names[i]] for i in places]
                axes.bar(places, heights, width=0.72, color=colour, alpha=1 if choice else 0.45, label=label)
                if several:
                    sds = [first.weights_sd.get(names[i], 0.0) for i in places]
                    axes.errorbar(places, heights, sds, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        step = 1 + len(names) // 26
        axes.set_xticks(range(0, len(names), step), [short(layer, 8) for layer in names[::step]])
        what = "weight in round 1" if elimination.by_weights else "rise of the validation loss without it, round 1"
        axes.set(xlabel="layer", ylabel=what)
        axes.grid(True, axis="y")
        figure.legend(loc="outside upper right", ncols=2)

    caption = "Weight of each layer when all of them are trained together, before any is dropped"
    if not elimination.by_weights:
        caption = "How much the validation loss rises when a layer is held at its training mean, all others there"
    caption += f"; bars: SD over {elimination.num_seeds} seeds." if several else "."
    title = f"Layer weights of view {elimination.view} in the first round of elimination {elimination.name}"
    return Figure(draw(f"weights {elimination.name}", title, (490, 300), paint), caption, 490)


def elimination_curve(elimination: EliminationResult, key: str) -> Figure:
    """Score against the round (wavCSE, Fig. 3), with the chosen round marked and the layers left told above.

    Args:
        elimination: whose rounds they are.
        key: a task, or `mean` for the mean over them, which chooses.
    """
    overall = key == "mean"
    width, height = (490, 330) if overall else (316, 250)

    def paint(figure: canvas.Figure) -> None:
        axes = figure.subplots()
        _mark(axes, elimination)
        for split, colour, marker, label in (("valid", SERIES[0], "o", "validation"), ("test", SERIES[1], "^", "test")):
            style = {"color": colour, "marker": marker, "markersize": 4 if overall else 3, "linewidth": 1.6}
            _curve(axes, elimination, split, key, {**style, "label": label})
        _rounds(axes, len(elimination.rounds))
        axes.set_ylabel("mean score over tasks" if overall else f"score of {short(key)}")
        axes.grid(True, axis="y")
        figure.legend(loc="outside upper right", ncols=2)

    if overall:
        caption = "Mean score of each round. The round is chosen on validation; test has no part in it. "
        caption += spread_of(elimination)
    else:
        caption = f"{key}: score of each round."
    of = "" if overall else f" by {key}"
    last = len(elimination.rounds[-1].layers)
    counts = f"{counted(len(elimination.rounds[0].layers), 'layer')} down to {last}"
    title = f"Score per round of elimination {elimination.name}{of}, {counts}"
    return Figure(draw(f"rounds {elimination.name} {key}", title, (width, height), paint), caption.strip(), width)


def poolings_curve(elimination: EliminationResult) -> Figure:
    """Validation score by round, a line per pooling, the best round of each marked; the one chosen is the thickest."""
    looks = [(colour, line) for line in LINES for colour in SERIES]

    def paint(figure: canvas.Figure) -> None:
        axes = figure.subplots()
        for (pooling, trail), (colour, line) in zip(elimination.whole.items(), looks, strict=False):
            chosen = pooling == elimination.pooling
            name = NAMES.get(pooling, short(pooling))
            axes.plot(range(1, len(trail.valid) + 1), np.array(trail.valid, float), color=colour, linestyle=line,
                      linewidth=2.4 if chosen else 1.2, label=f"{name} (chosen)" if chosen else name)  # fmt: skip
            axes.plot(trail.best_round, trail.valid[trail.best_round - 1], "o", color=colour, markersize=5)
        _rounds(axes, len(elimination.rounds))
        axes.set_ylabel("mean validation score")
        axes.grid(True, axis="y")
        figure.legend(loc="outside lower center", ncols=3, columnspacing=1)

    caption = "Mean validation score of each round, a line per pooling; dots: the best round of each."
    title = f"Score per round and pooling of elimination {elimination.name}"
    height = 300 + 18 * -(-len(elimination.whole) // 3)
    return Figure(draw(f"poolings {elimination.name}", title, (490, height), paint), caption, 490)


def _curve(axes: plots.Axes, elimination: EliminationResult, split: str, key: str, style: Mapping) -> None:
    """A line through the scores of all rounds, in a band of one SD to either side where that is told."""
    numbers = [r.number for r in elimination.rounds]
    means = np.array([_score(r, split, key) for r in elimination.rounds])
    sds = np.array([_score(r, f"{split}_sd", key) for r in elimination.rounds])
    if np.isfinite(sds).any() and (np.nan_to_num(sds) > 0).any():
        axes.fill_between(numbers, means - sds, means + sds, color=style["color"], alpha=0.16, linewidth=0)
    axes.plot(numbers, means, **style)


def _score(found: RoundResult, split: str, key: str) -> float:
    return float(getattr(found, split).get(key, np.nan))


def _mark(axes: plots.Axes, elimination: EliminationResult) -> None:
    """The round that was chosen."""
    best = elimination.best_round
    axes.axvline(best, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    to_the_left = best > 0.7 * len(elimination.rounds)
    chosen = f"chosen: {counted(len(elimination.best.layers), 'layer')}"
    axes.annotate(chosen, (best, 0), xycoords=("data", "axes fraction"),
                  xytext=(-4 if to_the_left else 4, 4), textcoords="offset points", va="bottom",
                  ha="right" if to_the_left else "left", fontsize=10, color=MUTED)  # fmt: skip


def _rounds(axes: plots.Axes, count: int) -> None:
    """Rounds below, and the layers that each has left above."""
    axes.set_xlabel("elimination round")
    axes.set_xlim(0.5, count + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    above = axes.secondary_xaxis("top", functions=(lambda number: count + 1 - number, lambda left: count + 1 - left))
    above.set_xlabel("layers left")
    above.xaxis.set_major_locator(MaxNLocator(integer=True))
    above.spines[:].set_visible(False)
    above.tick_params(length=0, pad=1)
