"""A running Dask scheduler, as `extract.scheduler` and `train.scheduler` name it."""

import distributed

from strata.pipeline.errors import StageError


def connected(address: str, patience_s: int | float, section: str, worker: str) -> distributed.Client:
    """A client of the scheduler at an address.

    Args:
        address: `tcp://host:port`.
        patience_s: how long to wait for an answer.
        section: of params.yaml that names it.
        worker: what a worker is started with, and for what, for the message.

    Raises:
        StageError: nobody answers.
    """
    try:
        return distributed.Client(address, timeout=patience_s)
    except (OSError, ValueError) as error:
        raise StageError(
            f"{section}.scheduler: nobody answers at {address}; start `dask scheduler` there, and "
            f"`dask worker {address} {worker}"
        ) from error
