"""Who trains the models of a stage, as `train` in params.yaml has it; no stage of its own."""

from strata.pipeline.study.folder import Study
from strata.trainers.training.workers import Workers, workers_of


def workers_for(study: Study, most: int | None = None) -> Workers:
    """A Dask cluster; or processes of this machine, one for every core that this one may use unless said otherwise.

    Args:
        study: whose models are trained.
        most: how many models there are, where that is known: no more processes than models.
    """
    how = study.params.train
    if how.scheduler:
        from strata.pipeline.stages.cluster import Cluster  # Dask, only where it is asked for

        return Cluster(how.scheduler)
    import joblib  # scikit-learn's, which whoever trains imports anyway

    return workers_of(how.workers or joblib.cpu_count(), most)
