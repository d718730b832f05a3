"""The report's figures: each function takes plain data and returns a `Figure` of finished SVG.

Colours mean the same everywhere: the first series is what is measured or chosen, the second what it is held against.
Knows no files and no page. What there may be hundreds of, confusions, scatters and losses, the page draws by itself
(drawings.js).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import figure as canvas
from matplotlib.ticker import MaxNLocator

from strata.pipeline.progress import counted, noun
from strata.pipeline.report.svg import MUTED, PAPER, RULE, SERIES, draw
from strata.pipeline.show.names import natural_order, short

MOST_POINTS = 1_500
"""Points of a map; more would only darken it and swell the page."""
SMALL = 230
"""CSS pixels of a map that is one of many: four stand side by side."""
SMALL_POINTS = 500
"""The same where there are many small ones."""
MARKERS = "o^sD"
"""Marker shapes: colours times shapes classes can be told apart."""


@dataclass(frozen=True)
class Figure:
    """A drawing and the words below it."""

    svg: str
    caption: str
    width: float
    """In CSS pixels; the caption is set to it."""


def class_counts(labels: pd.Series, task: str, most: int = 20) -> Figure:
    """How many utterances each class has; the most frequent ones where there are many."""
    counts = labels.value_counts()
    counts = counts[sorted(counts.index, key=lambda name: (-counts[name], natural_order(name)))]
    shown = counts.head(most)

    def paint(figure: canvas.Figure) -> None:
        axes = figure.subplots()
        axes.barh(range(len(shown)), shown, color=SERIES[0], height=0.7)
        axes.set_yticks(range(len(shown)), [short(c, 24) for c in shown.index])
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("utterances")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(True, axis="x")

    rest = counts.iloc[most:]
    caption = f"{task}: {counted(len(counts), 'class', 'classes')}, {counted(int(counts.sum()), 'utterance')}."
    if len(rest):
        few, many = int(rest.min()), int(rest.max())
        spread = f"{few:,} to {counted(many, 'utterance')}" if few < many else counted(many, "utterance")
        caption += f" Not shown: {counted(len(rest), 'class', 'classes')} with {spread} each."
    svg = draw(f"counts {task}", f"Utterances per class of {task}", (380, 70 + 22 * len(shown)), paint)
    return Figure(svg, caption, 380)


def histogram(labels: pd.Series, task: str) -> Figure:
    """The distribution of a regression's label; labels that are no number are told in the caption.

    Raises:
        ValueError: no label is a finite number.
    """
    values = finite(labels)
    others = labels[values.isna()]
    if values.isna().all():
        raise ValueError(f"no label is a number, but for instance {short(others.iloc[0])}")
    values = values.dropna().to_numpy()

    def paint(figure: canvas.Figure) -> None:
        axes = figure.subplots()
        axes.hist(values, bins=24, color=SERIES[0], rwidth=0.9)
        axes.set(xlabel=task, ylabel="utterances")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(True, axis="y")

    caption = f"{task}: mean {values.mean():.2f}, SD {values.std():.2f}, {counted(len(values), 'utterance')}."
    if len(others):
        words = f"{counted(len(others), 'label')} that {noun(len(others), 'is', 'are')} no number"
        caption += f" Not drawn: {words}, such as {short(others.iloc[0])}."
    return Figure(draw(f"histogram {task}", f"Distribution of {task}", (380, 260), paint), caption, 380)


def split_histogram(values: pd.Series, groups: pd.Series, what: Mapping[str, str]) -> Figure:
    """The distribution of a quantity in each group, side by side (TANGO, Figs 3 to 5).

    Args:
        values: finite numbers, one for each thing that is counted.
        groups: the name of its group.
        what: `task`, `group`, `corpus` and `unit`, the name of the things counted.
    """
    names = sorted(groups.unique(), key=natural_order)
    edges = np.histogram_bin_edges(values, bins=12)

    def paint(figure: canvas.Figure) -> None:
        axes = figure.subplots()
        parts = [values[groups == name] for name in names]
        axes.hist(parts, bins=edges, color=SERIES[: len(names)], label=[short(name) for name in names], rwidth=0.85)
        axes.set(xlabel=what["task"], ylabel=what["unit"])
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(True, axis="y")
        figure.legend(loc="outside upper right", ncols=len(names))

    counted = ", ".join(f"{(groups == name).sum():,} {short(name)}" for name in names)
    caption = f"{what['corpus']}: {what['task']} by {what['group']}, counted over {what['unit']} ({counted})."
    title = f"Distribution of {what['task']} by {what['group']} over {what['unit']} of corpus {what['corpus']}"
    return Figure(draw(" ".join(what.values()), title, (380, 260), paint), caption, 380)


def embedding(
    points: np.ndarray, labels: Sequence[str], order: Sequence[str], what: Mapping[str, str], small: bool = False
) -> Figure:
    """A map of utterances in two dimensions, coloured by a label.

    Args:
        points: [utterances, 2].
        labels: one per point.
        order: the classes, most telling first; those beyond what can be told apart are drawn grey.
        what: `view`, `layer` and `label`, for the caption.
        small: one of many that share a `key`: without one of its own, and with fewer points.
    """
    labels = np.asarray(labels, dtype=str)
    shown = _sample(len(points), SMALL_POINTS if small else MOST_POINTS)
    x, names = points[shown], labels[shown]
    size = 0.7 if small else 1.0

    def paint(figure: canvas.Figure) -> None:
        axes = figure.subplots()
        for label, chosen, style in _styles(order):
            style = {**style, "markersize": size * style["markersize"]}
            axes.plot(*x[np.isin(names, chosen)].T, linestyle="", label=label, **style)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color=RULE)
        if not small:
            figure.legend(loc="outside lower center", ncols=4, columnspacing=1, handletextpad=0.2)

    view, layer, label = what["view"], what["layer"], what["label"]
    caption = f"View {view}, layer {layer}, coloured by {label}: t-SNE of {counted(len(points), 'utterance')}, "
    caption += "features standardised."
    if small:
        caption = f"View {view}, layer {layer}: {counted(len(points), 'utterance')}."
    if len(shown) < len(points):
        caption += f" {len(shown):,} of them are drawn."
    title = f"t-SNE of view {view}, layer {layer}, coloured by {label}"
    rows = -(-len(_styles(order)) // 4)
    width, height = (SMALL, SMALL) if small else (490, 420 + 18 * rows)
    return Figure(draw(f"tsne {view} {layer} {label}", title, (width, height), paint), caption, width)


def key(order: Sequence[str], label: str) -> Figure:
    """The colours and shapes of the classes of a label, for the maps that share them."""
    styles = _styles(order)

    def paint(figure: canvas.Figure) -> None:
        axes = figure.subplots()
        for name, _, style in styles:
            axes.plot([], [], linestyle="", label=name, **style)
        axes.set_axis_off()
        axes.legend(loc="upper left", ncols=2, columnspacing=1, handletextpad=0.2, borderaxespad=0)

    height = 30 + 18 * -(-len(styles) // 2)
    svg = draw(f"key {label}", f"Colours of {label}", (SMALL, height), paint)
    return Figure(svg, f"{label}: colours of the maps beside, each the t-SNE of standardised features.", SMALL)


def _styles(order: Sequence[str]) -> list[tuple[str, list[str], dict]]:
    """How classes are drawn: the name in a key, the classes that it stands for, Matplotlib's options; grey ones first,
    so that they lie below the others."""
    looks = [(colour, marker) for marker in MARKERS for colour in SERIES]
    told_apart = len(looks) if len(order) <= len(looks) else len(SERIES)
    edge = {"markersize": 5, "markeredgecolor": PAPER, "markeredgewidth": 0.5}
    found = [
        (short(name), [name], {"marker": marker, "color": colour, **edge})
        for name, (colour, marker) in zip(order[:told_apart], looks, strict=False)
    ]
    if rest := list(order[told_apart:]):
        grey = {"marker": "o", "color": MUTED, "markersize": 3.5, "markeredgewidth": 0, "alpha": 0.3}
        found.insert(0, (f"{len(rest)} others", rest, grey))
    return found


def finite(values: pd.Series) -> pd.Series:
    """The values as floats; NaN where one is text or infinite."""
    numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
    return numbers.where(np.isfinite(numbers))


def _sample(count: int, most: int = MOST_POINTS) -> np.ndarray:
    """Indices of at most so many of that many points, the same ones every time."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))
