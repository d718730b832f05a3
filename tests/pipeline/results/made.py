"""Results of an experiment, made up."""

from dataclasses import replace
from pathlib import Path

from strata.pipeline.results.experiments import ExperimentResult


def made(
    name: str, mean: float, folds: str = "f01d", count: int = 101, metric: str = "accuracy", **about
) -> ExperimentResult:
    """An experiment of one task, tested on the given folds."""
    values = {"mean": mean, "sd": 0.01, "folds": [mean - 0.01, mean, mean + 0.01]}
    found = ExperimentResult(
        name=name, section=name.split("/")[0], setup="SVST", views=("mfcc",), tasks={"speaker": {metric: values}},
        kinds={"speaker": "classification"}, primary={"speaker": metric}, chance={}, classes={},
        config={"encoder": "mlp"}, corpora=("mine",), folds={"hash": folds} if folds else {},
        truth={"speaker": "7ru7h"}, num_utterances=count, num_folds=3, seeds=(0,), layers={}, seconds={},
        provenance={"manifest": "0123abcd"}, folder=Path(),
    )  # fmt: skip
    return replace(found, **about)
