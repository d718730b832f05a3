"""How names are put before people: their order, what of a long one fits, and which layers there are in one phrase.

Knows nothing of what bears the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sorting key that puts `speaker 9` before `speaker 10`."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)]


def short(name: object, width: int = 16) -> str:
    """A user's name for something, cut to fit an axis; in the middle, since names of a kind differ at their ends."""
    text = " ".join(str(name).split())
    head = width // 2
    return text if len(text) <= width else f"{text[:head]}…{text[head + 1 - width :]}"


def layer_height(layer: str) -> float:
    """Where a layer stands in its model: its number; infinity for what comes after all of them, -1 without a number."""
    return float(layer) if layer.isdecimal() else float("inf") if layer == "last_hidden_state" else -1.0


def layer_ranges(kept: Iterable[str]) -> str:
    """Layers in the model's order, three and more that follow each other in the model drawn together: `0–14, 17`."""
    runs: list[list[str]] = []
    for layer in sorted(kept, key=layer_height):
        if runs and layer_height(layer) == layer_height(runs[-1][-1]) + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)
