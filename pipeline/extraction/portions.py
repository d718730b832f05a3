"""Files of audio and the layers that a trained model reads of them, portion by portion, in order.

Files are decoded ahead of the models that compute them (`upstreams`). Knows no head and no output.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from strata.extractors import audio
from strata.extractors.contract import unusable
from strata.pipeline.extraction.decoding import ahead, waveform
from strata.pipeline.extraction.upstreams import Upstream
from strata.pipeline.study.failures import Failure

PORTION_S = 60.0
"""Seconds of audio that are computed together, or as many as go into a batch: what bounds memory, and the wait for the
first answers."""
MOST_FILES = 256
"""In a portion, however short they are."""
STDIN = "-"
"""The file that stands for names of files on standard input."""


def named(files: Iterable[str]) -> Iterator[str]:
    """The names of all files, those on standard input included."""
    for file in files:
        if file != STDIN:
            yield file
            continue
        for line in sys.stdin.buffer:  # names are bytes, whatever the locale says
            if name := os.fsdecode(line.rstrip(b"\r\n")):
                yield name


@dataclass
class Portion:
    """Files that were computed together."""

    files: list[str]
    outcomes: list
    """For each file a Failure, or its waveform, in whose place an answer may be put."""
    rows: list[int]
    """Places of the files that could be computed."""
    features: dict[str, np.ndarray]
    """For each view float32 [rows, layers, dim]."""


def portions(views: Mapping[str, Upstream], names: Iterable[str], channel: audio.Channel = None) -> Iterator[Portion]:
    """The files with the layers that a model reads of them, portion by portion, in order.

    Args:
        views: what computes each view of the model.
        names: of files.
        channel: the one that is heard of files with several; None: the mean of all.
    """
    # The reasons of the view that needs most are everybody's.
    refused = partial(unusable, min_samples=max(view.min_samples for view in views.values()))
    seconds = max(PORTION_S, *(view.batch_s for view in views.values()))
    decode = partial(_decoded, refused=refused, channel=channel)
    for files, waveforms in ahead(_portions(names, seconds), decode):
        yield _computed(views, files, waveforms)


def _decoded(
    file: str, refused: Callable[[np.ndarray, int], str | None], channel: audio.Channel
) -> np.ndarray | Failure:
    """A file's waveform; what `strata corpus` would not list is refused as it does, what the views cannot take too."""
    return waveform(Path(file), refused, channel=channel, silence_dbfs=audio.SILENCE_DBFS)


def _portions(names: Iterable[str], most_s: float) -> Iterator[list[str]]:
    """Names of files that last so long together; a longer one is a portion of its own."""
    portion, total_s = [], 0.0
    for name in names:
        try:
            duration_s = audio.duration(name)
        except Exception:
            duration_s = 0.0  # whoever decodes it will say why
        if portion and (total_s + duration_s > most_s or len(portion) == MOST_FILES):
            yield portion
            portion, total_s = [], 0.0
        portion.append(name)
        total_s += duration_s
    if portion:
        yield portion


def _computed(views: Mapping[str, Upstream], files: list[str], waveforms: Sequence[np.ndarray | Failure]) -> Portion:
    """A portion's layers; a waveform that one view cannot compute is none for the others."""
    outcomes: list[np.ndarray | Failure] = list(waveforms)
    features: dict[str, dict[int, np.ndarray]] = {}
    for name, view in views.items():
        usable = [row for row, outcome in enumerate(outcomes) if not isinstance(outcome, Failure)]
        features[name] = {}
        for row, values in zip(usable, view([waveforms[row] for row in usable]), strict=True):
            if isinstance(values, Failure):
                outcomes[row] = values
            else:
                features[name][row] = values
    rows = [row for row, outcome in enumerate(outcomes) if not isinstance(outcome, Failure)]
    stacked = {name: np.stack([found[row] for row in rows]) for name, found in features.items()} if rows else {}
    return Portion(list(files), outcomes, rows, stacked)
