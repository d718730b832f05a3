"""What cutting a view's model after the highest layer kept saves: parameters, bytes, operations and time.

Loads the model twice, as the view was when its layers were eliminated and as it is with those that stay, and lets the
two take turns on the same noise. No store and no recording is touched.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strata import extractors
from strata.extractors import Extractor, TextExtractor, speed
from strata.extractors.contract import SAMPLING_RATE
from strata.extractors.sources import local_only
from strata.extractors.view import View
from strata.pipeline.commands.layers.elimination import with_layers
from strata.pipeline.extraction import work
from strata.pipeline.results.eliminations import EliminationResult
from strata.pipeline.study.folder import Study

UTTERANCE_S = 4.0
UTTERANCES = {"cpu": 1, "cuda": 32}
"""Computed at a time: enough to keep the device busy."""
TEXT = "nobody knows what the weather will be like in the north on the day after tomorrow"
FEWEST_ROUNDS, MOST_ROUNDS = 3, 25
LEAST_S = 5.0
"""Both models are measured again and again until they have taken so long together."""


@dataclass(frozen=True)
class Cost:
    """Of one of the two models."""

    layers: int
    """That it hands over."""
    pooled_bytes: int
    """Of one utterance in the store, frames not counted."""
    parameters: int | None = None
    """None where the family does not tell."""
    bytes: int | None = None
    """Of the parameters."""
    operations: float | None = None
    """Floating-point operations on the sample; None where they were not measured or cannot be."""
    seconds: float | None = None
    """On the sample, median over the rounds."""


@dataclass(frozen=True)
class Saving:
    """The two models side by side."""

    whole: Cost
    cut: Cost
    device: str = ""
    """Where they were timed; empty where they were not."""
    sample: str = ""
    """What was computed."""
    rounds: int = 0


def measure(study: Study, found: EliminationResult, section: View, timed: bool) -> Saving:
    """Weighs both models, and times them if asked to.

    Args:
        study: whose `extract.device` computes.
        found: which layers there were, and which stay.
        section: of the view.
        timed: False loads no weights.

    Raises:
        CheckpointAbsent: the model is not on this machine; nothing is downloaded for this.
        ViewError: it cannot be used.
    """
    how = {"device": study.params.extract.device, "batch_s": study.params.extract.batch_s, "folder": study.folder}
    with local_only():
        whole, cut = (
            extractors.load(with_layers(section, layers, frames=[]), **how)
            for layers in (found.layer_names, found.support)
        )
        if not timed:
            return Saving(_cost(whole), _cost(cut))
        on_gpu = cut.device.startswith("cuda")
        count = UTTERANCES["cuda" if on_gpu else "cpu"]
        inputs, sample = _sample(cut, count)
        for model in (whole, cut):  # loads the weights, and finds out how large a batch may be
            work.values(model, inputs)
        operations = [speed.count_operations(lambda m=model: work.values(m, inputs)) for model in (whole, cut)]
        times = _take_turns((whole, cut), inputs)
    return Saving(
        _cost(whole, operations[0], statistics.median(times[0])),
        _cost(cut, operations[1], statistics.median(times[1])),
        f"{cut.device} ({speed.device_name(cut.device)})",
        sample,
        len(times[0]),
    )


def _cost(model: Extractor, operations: float | None = None, seconds: float | None = None) -> Cost:
    parameters, num_bytes = None, None
    if model.size is not None:
        parameters, num_bytes = model.size.parameters, model.size.parameters * model.size.itemsize
    layers = len(model.layer_names)
    return Cost(layers, 4 * layers * model.dim, parameters, num_bytes, operations, seconds)


def _sample(model: Extractor, count: int) -> tuple[Sequence[np.ndarray] | Sequence[str], str]:
    """Something to compute, the same every time, and what to call it."""
    if isinstance(model, TextExtractor):
        return [TEXT] * count, f"{count} text{'s' * (count > 1)} of {len(TEXT.split())} words"
    noise = np.random.default_rng(0).normal(scale=0.1, size=(count, round(UTTERANCE_S * SAMPLING_RATE)))
    return list(noise.astype(np.float32)), f"{count * UTTERANCE_S:g} s of noise"


def _take_turns(models: Sequence[Extractor], inputs: Sequence) -> list[list[float]]:
    """Seconds of each round of each model. In turns, for a machine's speed drifts."""
    times: list[list[float]] = [[] for _ in models]
    while len(times[0]) < FEWEST_ROUNDS or (len(times[0]) < MOST_ROUNDS and sum(map(sum, times)) < LEAST_S):
        for model, taken in zip(models, times, strict=True):
            start = time.perf_counter()
            work.values(model, inputs)
            taken.append(time.perf_counter() - start)
    return times
