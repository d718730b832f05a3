"""Models to train, one after the other or side by side: what a worker process is given, and what it gives back.

A job knows its rows and its tasks; which folds there are and what becomes of the outputs is not its business.
"""

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from strata.trainers.inputs.data import Targets, TrainingError
from strata.trainers.inputs.pooled import Pooled
from strata.trainers.models.heads import Heads, build
from strata.trainers.models.unified import UnifiedEmbedding
from strata.trainers.spec import Experiment
from strata.trainers.training.device import resolved
from strata.trainers.training.fit import fit, outputs
from strata.trainers.training.memory import keep_memory
from strata.trainers.training.workers import Workers, finished

_TURN = threading.Lock()
"""A process has one stream of random numbers; on a cluster, a worker may have several threads."""


class Stopped(Exception):
    """Raised by a `watch` to end a training that nobody needs any more."""


@dataclass(frozen=True)
class Job:
    """One model: on what it is trained, by what it is stopped, on what it is asked."""

    experiment: Experiment
    features: Sequence[Pooled]
    """The views of the experiment; their values are shared by all jobs that read them."""
    targets: Sequence[Targets]
    """The tasks of this model."""
    seed: int
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    """Utterance numbers."""
    fold: int | None
    """Number of the fold; None for the model that is trained on everything, which is wanted itself, not its outputs."""
    device: str = "cpu"
    """See `training.device`, which is asked where the model is trained."""


@dataclass(frozen=True)
class Trained:
    """What came of a job."""

    model: Heads | UnifiedEmbedding | None
    """Only of a job of no fold: the others' would be in nobody's use."""
    curve: list[tuple[int, float, float]]
    """Epoch, training loss, validation loss."""
    outputs: dict[str, np.ndarray]
    """For each task its outputs for the test utterances: see `training.fit.outputs`."""
    seconds: float
    error: TrainingError | None = None
    """Why there is none of all this."""


def train_all(jobs: Iterable[Job], workers: Workers) -> Iterator[tuple[int, Trained]]:
    """Trains many models; the next ones are asked for while earlier ones run.

    The same jobs give the same models to the bit on machines that are alike, wherever each is trained. A job that
    cannot be done says so in its own `Trained.error`, and the others are done.

    Args:
        jobs: may be made as they are asked for.
        workers: who trains, one thread each: heads are too small to share a core's work.

    Yields:
        Numbers of jobs, from 0, with what came of them, as soon as it is there.
    """
    for number, found in finished(train, jobs, workers):
        yield number, Trained(None, [], {}, 0.0, told(found)) if isinstance(found, Exception) else found


def told(error: Exception) -> TrainingError:
    """An error as one line; of one that nobody foresaw, what it is and where."""
    if isinstance(error, TrainingError):
        return error
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f", {Path(each.filename).name} line {each.lineno}" for each in place)
    found = TrainingError(f"{type(error).__name__} in training{where}: {' '.join(str(error).split())[:300]}")
    found.__cause__ = error
    return found


def train(job: Job, watch: Callable[[int, float], None] = lambda epoch, valid_loss: None) -> Trained:
    """Trains one model, on one thread; one at a time in a process.

    Args:
        job: what to train.
        watch: see `training.fit.fit`.

    Raises:
        Stopped: by `watch`; every other error is handed over in what is returned.
    """
    with in_turn(job.seed):
        return _train(job, watch)


@contextmanager
def in_turn(seed: int) -> Iterator[None]:
    """One training at a time in this process, on one thread, with the random numbers of its seed."""
    with _TURN:
        keep_memory()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with threadpool_limits(1):
                torch.manual_seed(seed)
                yield
        finally:
            torch.set_num_threads(threads)


def _train(job: Job, watch: Callable[[int, float], None]) -> Trained:
    started = time.monotonic()
    try:
        shapes = [f.shape[1:] for f in job.features]
        model = build(shapes, job.experiment, {target.name: target.num_outputs for target in job.targets})
        model.prepare(job.features, job.train)
        model.to(resolved(job.device))
        curve = fit(model, job.features, job.targets, job.train, job.valid, job.experiment, job.seed, watch)
        wanted = job.fold is None
        found = {} if wanted else outputs(model, job.features, job.test)
        refuse_not_finite(found)
    except Stopped:
        raise
    except Exception as error:  # handed on, not raised: one experiment's trouble is not the others'
        return Trained(None, [], {}, time.monotonic() - started, told(error))
    return Trained(model.cpu() if wanted else None, curve, found, time.monotonic() - started)


def refuse_not_finite(outputs_of: Mapping[str, np.ndarray]) -> None:
    """Raises TrainingError where a task's outputs [rows, outputs] are not all finite: there is no score of them."""
    for task, found in outputs_of.items():
        if wrong := int((~np.isfinite(found)).any(axis=1).sum()):
            raise TrainingError(
                f"task {task}: the outputs for {wrong} of {len(found)} tested utterances are not finite; lower "
                "learning_rate, or look for values beyond reason among the features and labels"
            )
