"""Over what a score's standard deviation is taken: the seeds where there are several, else the folds.

The paper's tables repeat a training with other seeds; the spread of folds, which hold other utterances, is another
thing and mostly larger. Of a score taken on seeds × folds, metrics.json tells the SD over all of them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from strata.pipeline.progress import counted
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.show.tables import is_number

OF_ONE_FOLD = "of one fold, which has no SD"


def per_repeat(result: ExperimentResult, values: Mapping[str, Any]) -> list[float]:
    """A metric's means per seed where there are several seeds, else its score in each fold; None left out.

    Args:
        result: whose metric it is.
        values: `folds` has a score per seed and fold, the folds of the first seed first.
    """
    folds, seeds = values.get("folds") or [], len(result.seeds)
    if seeds < 2 or len(folds) % seeds:
        return [fold for fold in folds if is_number(fold)]
    count = len(folds) // seeds
    parts = [[fold for fold in folds[i * count : (i + 1) * count] if is_number(fold)] for i in range(seeds)]
    return [float(np.mean(part)) for part in parts if part]


def over_seeds(result: ExperimentResult) -> ExperimentResult:
    """The same with the SD of every score over the seeds, where there are several."""
    if len(result.seeds) < 2:
        return result
    tasks = {
        task: {metric: {**values, "sd": sd(per_repeat(result, values))} for metric, values in scores.items()}
        for task, scores in result.tasks.items()
    }
    return replace(result, tasks=tasks)


def mean_over_tasks(result: ExperimentResult) -> dict[str, float | None]:
    """`mean` and `sd` of the mean primary score; `mean` is None where tasks are scored by different measures."""
    found = [scores.get(result.primary[task], {}) for task, scores in result.tasks.items()]
    means = [values.get("mean") for values in found]
    if len(set(result.primary.values())) != 1 or not means or not all(map(is_number, means)):
        return {"mean": None, "sd": None}
    repeats = [per_repeat(result, values) for values in found]
    together = [float(np.mean(values)) for values in zip(*repeats, strict=False)]
    comparable = len({len(values) for values in repeats}) == 1
    return {"mean": float(np.mean(means)), "sd": sd(together) if comparable else None}


def over(results: Sequence[ExperimentResult]) -> str:
    """What the scores of these results are, for a caption: `mean ± SD over 5 folds`, or that one value has no SD."""
    seeds, folds = ({len(r.seeds) for r in results}, {r.num_folds for r in results})
    if max(seeds, default=0) < 2:
        return OF_ONE_FOLD if folds == {1} else f"mean ± SD over {_count(folds, 'fold')}"
    if min(seeds) < 2:
        return "mean ± SD over the seeds where there are several, else over the folds"
    means = "" if folds == {1} else f", of means over {_count(folds, 'fold')}"
    return f"mean ± SD over {_count(seeds, 'seed')}{means}"


def sd(values: Sequence[float]) -> float | None:
    """Of a sample, as the trainers have it; a single value has none."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _count(counts: set, what: str) -> str:
    if len(counts) > 1 or None in counts:
        return f"the {what}s"
    (count,) = counts
    return counted(count, what)
