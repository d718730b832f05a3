"""What must be said beside numbers: why they are no results, or what may not be done with them.

Speech from the demo's synthesiser and models of random weights exercise the whole pipeline, but what comes out is no
result; a page or a terminal that shows a number says so next to it. What a licence forbids is said once, at the top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from strata import extractors


@dataclass(frozen=True)
class Notice:
    """What a reader of numbers must know: why they are no results, or what may not be done with them."""

    tag: str
    """Two words, put beside every table and figure that the notice is about."""
    sentence: str
    about: str
    """`speech` or `weights`; counts of utterances need no word on weights. `licence` is put beside nothing."""

    @property
    def line(self) -> str:
        """For a terminal."""
        return f"{self.tag.capitalize()}: {self.sentence}"


def about(synthetic_corpora: Sequence[str], miniature_views: Sequence[str]) -> list[Notice]:
    """Why numbers of these are no results; nothing for real speech and real weights.

    Args:
        synthetic_corpora: names of the corpora in which nobody ever spoke.
        miniature_views: names of the views of random weights.
    """
    found = []
    if corpora := synthetic_corpora:
        subject = _named("corpus", "corpora", corpora)
        sentence = f"{subject} made by a small synthesiser. Numbers here say nothing of real speech."
        found.append(Notice("synthetic speech", sentence, "speech"))
    if views := miniature_views:
        subject = _named("view", "views", views)
        sentence = f"{subject} computed by untrained miniatures. Numbers here say nothing of the real models."
        found.append(Notice("random weights", sentence, "weights"))
    return found


def licences(views: Mapping[str, Sequence[str]]) -> list[Notice]:
    """What licences forbid; nothing where they forbid nothing.

    Args:
        views: family → the names of its views that are used.
    """
    found = []
    for family, notice in extractors.NOTICES.items():
        if names := views.get(family):
            sentence = f"{_named('view', 'views', names)} of family {family}: {notice}."
            found.append(Notice("licence terms", sentence, "licence"))
    return found


def _named(one: str, several: str, names: Sequence[str]) -> str:
    *most, last = names
    return f"The {several} {', '.join(most)} and {last} are" if most else f"The {one} {last} is"
