"""Pairs of views as a map: TANGO above the diagonal, concatenation below it, one view alone on it.

The darker, the better, whichever way the metric runs; the scale is that of the map. Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strata.pipeline.progress import counted
from strata.pipeline.results import ranking, testsets
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.results.ranking import Criterion
from strata.pipeline.show.tables import number
from strata.trainers import setups

FEWEST_VIEWS = 3
"""Views below which there is nothing to see."""
SETUPS = {setups.TANGO: "TANGO above the diagonal", setups.CONCAT: "concatenation below the diagonal"}


@dataclass(frozen=True)
class Field:
    """One field of the map."""

    text: str
    share: float
    """From 0, the worst of the map, to 1, the best."""
    name: str
    """Of the cell that it shows."""


@dataclass(frozen=True)
class HeatMap:
    """One task's scores for every pair of views."""

    caption: str
    views: tuple[str, ...]
    rows: tuple[tuple[Field | None, ...], ...]
    """[view, view]; None where there is no score."""
    worst: str
    best: str


def heatmaps(cells: Sequence[ExperimentResult], corpora: str) -> list[HeatMap]:
    """One map for each task that pairs of views were trained for.

    Args:
        cells: of one corpus, or of one set of them; where a setup has several cells of the same views, as in a grid
            over its parameters, the map shows the best of them.
        corpora: its name.
    """
    paired = [cell for cell in cells if _is_pair(cell)]
    alone = _alone(cells)
    views = tuple(dict.fromkeys(view for cell in cells if _is_pair(cell) or cell.setup == alone for view in cell.views))
    if len(views) < FEWEST_VIEWS:
        return []
    criteria = ranking.criteria(paired)
    return [_map(cells, views, t, corpora) for t in criteria if ranking.best(paired, t) is not None]


def _map(everything: Sequence[ExperimentResult], views: tuple[str, ...], criterion: Criterion, corpora: str) -> HeatMap:
    """Colours compare, so what was tested on other utterances than most has no place here: the tables have it."""
    alone = _alone(everything)
    mapped = [cell for cell in everything if _is_pair(cell) or cell.setup == alone]
    cells = testsets.most_shared(mapped, criterion)
    left_out = len([cell for cell in mapped if ranking.mean(cell, criterion) is not None]) - len(cells)
    places: dict[tuple[int, int], list[ExperimentResult]] = {}
    for cell in cells:
        if _is_pair(cell):
            low, high = sorted(views.index(view) for view in cell.views)
            places.setdefault((low, high) if cell.setup == setups.TANGO else (high, low), []).append(cell)
        elif cell.setup == alone:
            places.setdefault((views.index(cell.views[0]),) * 2, []).append(cell)
    shown = {place: ranking.best(members, criterion) for place, members in places.items()}
    scores = {place: ranking.mean(cell, criterion) for place, cell in shown.items() if cell is not None}
    how = ranking.metric(criterion[1])
    worst, best = sorted((min(scores.values()), max(scores.values())), reverse=not how.higher_is_better)

    def written(score: float) -> str:
        return number(score * how.scale, 1 if how.scale == 100 else 2)

    def field(place: tuple[int, int]) -> Field | None:
        if place not in scores:
            return None
        share = (scores[place] - worst) / (best - worst) if best != worst else 1.0
        return Field(written(scores[place]), round(share, 3), shown[place].name)

    told = [text for setup, text in SETUPS.items() if any(cell.setup == setup for cell in cells)]
    told += [f"{alone} on it"] if alone else []
    if any(
        len([cell for cell in members if ranking.mean(cell, criterion) is not None]) > 1 for members in places.values()
    ):
        told.append("of several cells in one place the best by its test score")
    told += [ranking.encoders(cells)]
    told += [f"{counted(left_out, 'cell')} tested on other utterances left out"] if left_out else []
    return HeatMap(
        f"{corpora}, {criterion[0]}: {how.heading}; {', '.join(told)}",
        views,
        tuple(tuple(field((i, j)) for j in range(len(views))) for i in range(len(views))),
        written(worst),
        written(best),
    )


def _is_pair(cell: ExperimentResult) -> bool:
    return cell.setup in SETUPS and len(cell.views) == 2


def _alone(cells: Sequence[ExperimentResult]) -> str:
    """The setup of one view that the diagonal shows; empty where there is none."""
    found = {cell.setup for cell in cells if len(cell.views) == 1}
    return next((setup for setup in (setups.SVMT, setups.SVST) if setup in found), "")
