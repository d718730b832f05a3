"""What the page shows of one result under a heading of its own: an experiment, an elimination, a search.

Part by part, so that an odd value costs its own figure and no more. Knows no files and no HTML.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from strata.pipeline.progress import counted
from strata.pipeline.report import figures, layer_figures, layer_tables, scores, search_figures, search_tables
from strata.pipeline.report.drawings import Drawings
from strata.pipeline.results import ranking
from strata.pipeline.results.eliminations import EliminationResult
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.results.reading import Gap, attempt
from strata.pipeline.results.searches import SearchResult
from strata.pipeline.show.tables import Table


@dataclass(frozen=True)
class Exhibit:
    """One experiment, elimination or search: its figures and tables under a heading of its own."""

    name: str
    subtitle: str
    figures: tuple[figures.Figure, ...]
    tables: tuple[Table, ...]
    below: tuple[Table, ...] = ()
    """Tables that follow the figures."""
    folded: tuple[Table, ...] = ()
    """Tables that open on request."""
    drawn: str = ""
    """What the page draws by itself, by its key among the `Drawings`; empty where there is nothing."""


def experiment(found: ExperimentResult, drawings: Drawings) -> Exhibit:
    """All metrics, and what the page draws by itself: confusions or scatters per task, training curves."""
    subtitle = " · ".join([found.setup, ranking.views(found), *_extent(found)])
    return _trained(found.name, found.name, subtitle, found, drawings)


def downstream(found: ExperimentResult, drawings: Drawings) -> Exhibit:
    """As an experiment, but under the name of its section and its tasks: its model is the same for all sections."""
    subtitle = " · ".join([f"embedding {ranking.views(found)}", *_extent(found)])
    return _trained(f"downstream/{found.name}", f"{found.name}: {', '.join(found.tasks)}", subtitle, found, drawings)


def _trained(key: str, name: str, subtitle: str, found: ExperimentResult, drawings: Drawings) -> Exhibit:
    is_drawn, folded = drawings.add_experiment(key, found)
    table = attempt(drawings.gaps, f"the table of experiment {found.name}", lambda: scores.metrics(found))
    tables = (table,) if table else ()
    return Exhibit(name, subtitle, (), tables, folded=tuple(folded), drawn=key if is_drawn else "")


def elimination(found: EliminationResult, gaps: list[Gap]) -> Exhibit | None:
    """Weights, score by round of the mean and of every task, the choice inside the folds, what a cut saves."""
    about = f"layer elimination {found.name}"
    subtitle = attempt(gaps, about, lambda: _outcome(found))
    if subtitle is None:
        return None
    parts = _Parts(gaps, about)
    parts.draw("the weights", lambda: layer_figures.layer_weights(found))
    for key in found.scored:
        if key != "mean" or len(found.scored) != 2:  # of a single task the mean is the task's own score
            parts.draw(f"the curve of {key}", lambda key=key: layer_figures.elimination_curve(found, key))
    if len(found.whole) > 1:
        parts.draw("the curves of the poolings", lambda: layer_figures.poolings_curve(found))
    parts.tell("the choice inside the folds", lambda: layer_tables.inside_folds(found))
    parts.tell("the poolings", lambda: layer_tables.poolings(found))
    parts.tell("what a cut saves", lambda: layer_tables.savings(found))
    parts.fold("the rounds", lambda: layer_tables.rounds(found))
    return parts.exhibit(found.name, subtitle)


def search(found: SearchResult, gaps: list[Gap]) -> Exhibit | None:
    """The course of the search, value by field, and the trials."""
    about = f"search {found.name}"
    subtitle = attempt(gaps, about, lambda: search_tables.subtitle(found))
    if subtitle is None:
        return None
    parts = _Parts(gaps, about)
    if any(trial.value is not None for trial in found.trials):
        parts.draw("the course", lambda: search_figures.history(found))
    if found.is_surface and found.complete:
        parts.draw("the surface", lambda: search_figures.surface(found))
    elif found.complete:
        for field in found.space:
            parts.draw(f"the panel of {field}", lambda field=field: search_figures.panel(found, field))
    parts.tell("the best trials", lambda: search_tables.best_trials(found))
    parts.fold("the trials", lambda: search_tables.all_trials(found))
    return parts.exhibit(found.name, subtitle)


class _Parts:
    """Figures and tables as they come about; one that fails becomes a gap."""

    def __init__(self, gaps: list[Gap], about: str):
        self.gaps, self.about = gaps, about
        self.figures: list[figures.Figure] = []
        self.tables: list[Table] = []
        self.folded: list[Table] = []

    def draw(self, what: str, make: Callable[[], figures.Figure]) -> None:
        self._add(self.figures, what, make)

    def tell(self, what: str, make: Callable[[], Table | None]) -> None:
        self._add(self.tables, what, make)

    def fold(self, what: str, make: Callable[[], Table | None]) -> None:
        self._add(self.folded, what, make)

    def exhibit(self, name: str, subtitle: str) -> Exhibit:
        return Exhibit(name, subtitle, tuple(self.figures), (), tuple(self.tables), tuple(self.folded))

    def _add(self, to: list, what: str, make: Callable) -> None:
        made = attempt(self.gaps, f"{what} of {self.about}", make)
        to += [made] if made is not None else []


def _extent(found: ExperimentResult) -> list[str]:
    """How much a result rests on."""
    counts = {"utterance": found.num_utterances, "pair": found.num_trials, "fold": found.num_folds}
    extent = [counted(count, what) for what, count in counts.items() if count]
    return extent + ([counted(len(found.seeds), "seed")] if len(found.seeds) > 1 else [])


def _outcome(found: EliminationResult) -> str:
    subtitle = f"view {found.view} · kept {layer_tables.kept_layers(found)}"
    if unneeded := layer_tables.unneeded_layers(found):
        subtitle += f" · the upstream can be cut {counted(unneeded, 'layer')} early"
    return subtitle
