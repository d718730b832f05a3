"""From a Matplotlib figure to SVG that belongs to the page it is put into.

The page's style sheet owns the colours and the font: Matplotlib draws with the stand-ins below, and `inline` exchanges
them for the page's custom properties, so that one drawing serves the light and the dark page. Knows nothing of what is
drawn.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from html import escape
from io import StringIO

import matplotlib
from matplotlib.figure import Figure

INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"
"""Stand-ins for the page's text, small print, hairlines and background."""
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colour-blind-safe colours; the page has a lighter set of its own for dark screens."""

_PAGE_COLOURS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, 1)},
}
_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "text.parse_math": False,  # a user's label may hold dollar signs
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 1,
    "axes.axisbelow": True,
}
_UNITS_PER_INCH = 72  # an SVG user unit is then one CSS pixel


def draw(name: str, title: str, size: tuple[float, float], paint: Callable[[Figure], None]) -> str:
    """The SVG element that `paint` draws.

    Args:
        name: tells this figure's ids from those of the page's other figures; the same name gives the same bytes.
        title: what a screen reader says instead of the figure.
        size: width and height in CSS pixels.
        paint: draws onto an empty figure.
    """
    width, height = size
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser picks the font, so it is no matter that Matplotlib's own lacks a label's letters.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width / _UNITS_PER_INCH, height / _UNITS_PER_INCH), layout="constrained")
        paint(figure)
        out = StringIO()
        figure.savefig(out, format="svg", dpi=_UNITS_PER_INCH, transparent=True, metadata={"Date": None})
    return inline(out.getvalue(), title)


def inline(drawing: str, title: str) -> str:
    """A Matplotlib SVG document as an element for an HTML page: no prologue, no metadata, no foreign address."""
    view_box = re.search(r'viewBox="([^"]*)"', drawing)[1]
    width = view_box.split()[2]
    body = drawing[drawing.index("</metadata>") + len("</metadata>") : drawing.rindex("</svg>")]
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # its `*` would reach the whole page
    referenced = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', body))
    body = re.sub(r"<[^>]*>", lambda tag: _tidy(tag[0], referenced), body)  # tags only: never a user's text
    body = re.sub(r">\s+<", "><", body).strip()
    return (
        f'<svg role="img" viewBox="{view_box}" style="width: {width}px" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def _tidy(tag: str, referenced: set[str]) -> str:
    tag = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in referenced else "", tag)
    if "data:image" in tag:
        return tag.replace("xlink:href", "href")
    tag = tag.replace("xlink:href", "href")
    tag = re.sub(r"font-family: [^;\"]*(; )?", "", tag)
    tag = re.sub(r"-?\d+\.\d+(?=[\s\",)])", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), tag)
    tag = re.sub(r"#[0-9a-f]{6}\b", lambda colour: _PAGE_COLOURS.get(colour[0], colour[0]), tag)
    return " ".join(tag.split())
