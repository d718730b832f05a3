"""Who trains the models of a stage, as `train` in params.yaml has it; no stage of its own."""

from strata.pipeline.progress import say
from strata.pipeline.study.folder import Study
from strata.trainers.training.workers import Processes, Workers, workers_of


def workers_for(study: Study, most: int | None = None) -> Workers:
    """A Dask cluster; or processes of this machine, one for every core that this one may use unless said otherwise.

    On a GPU one model at a time keeps it busy, and every process would hold libraries of its own there.

    Args:
        study: whose models are trained.
        most: how many models there are, where that is known: no more processes than models.

    Raises:
        TrainingError: a GPU is asked for, and there is none.
    """
    how = study.params.train
    if how.scheduler:
        from strata.pipeline.stages.cluster import Cluster  # Dask, only where it is asked for

        return Cluster(how.scheduler)
    import joblib  # scikit-learn's, which whoever trains imports anyway

    from strata.trainers.training.device import resolved

    own_gpu = resolved(how.device).type != "cpu"
    workers = workers_of(how.workers or (1 if own_gpu else joblib.cpu_count()), most)
    if isinstance(workers, Processes):
        workers.tell = say
    return workers
