"""What must be said below a table of experiments' scores. Knows no files and no HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from strata.pipeline.results import ranking, testsets
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.show.tables import Cell

CHANCE = "° no better than chance: always the most frequent class, the training labels' mean, or for pairs a coin."
MANIFEST = "Not all experiments were trained on the same state of the manifest (see Provenance)."


def below(experiments: Sequence[ExperimentResult], cells: Iterable[Cell]) -> tuple[str, ...]:
    """The notes of a table of these experiments' scores."""
    said = averages(name for _, name in ranking.criteria(experiments))
    said += [CHANCE] if any(cell.mark for cell in cells) else []
    return (*said, *([MANIFEST] if _of_several_manifests(experiments) else []))


def averages(metrics: Iterable[str]) -> list[str]:
    """Over which classes those metrics are means that are means over classes."""
    found = set(metrics)
    averaged = [ranking.metric(name).title for name in ("uar", "f1") if name in found]
    if not averaged:
        return []
    what = f"{' and '.join(averaged)}: {'means' if len(averaged) > 1 else 'mean'}"
    return [f"{what} over the classes present among a fold's tested utterances, each of the same weight."]


def _of_several_manifests(experiments: Sequence[ExperimentResult]) -> bool:
    """Whether it matters that the manifest was another one: on the very same folds and labels it does not."""
    if len({str(experiment.provenance.get("manifest")) for experiment in experiments}) < 2:
        return False
    known = all("hash" in experiment.folds for experiment in experiments)
    criteria = ranking.criteria(experiments)
    return not known or any(len(testsets.alike(experiments, criterion)) > 1 for criterion in criteria)
