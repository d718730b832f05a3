"""Which runner computes the blocks of an extraction: see `runners` for what all of them can do."""

from strata.pipeline.extraction.runners import Runner
from strata.pipeline.extraction.threads import Threads
from strata.pipeline.extraction.work import Extraction
from strata.pipeline.study.params import ExtractStage


def runner_for(how: ExtractStage, extraction: Extraction, own_process: bool) -> Runner:
    """The runner that `extract` in params.yaml asks for; a model that shares no process with others never runs here."""
    if how.scheduler or how.workers > 1 or own_process:
        from strata.pipeline.extraction.cluster import Cluster

        return Cluster(extraction, how, own_process)
    return Threads(extraction)
