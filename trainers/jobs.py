"""Models to train, one after the other or side by side: what a worker process is given, and what it gives back.

A job knows its rows and its tasks; which folds there are and what becomes of the answers is not its business.
"""

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import BrokenProcessPool
from threadpoolctl import threadpool_limits

from trainers.data import Targets, TrainingError
from trainers.fit import fit, outputs
from trainers.memory import keep_memory
from trainers.model import Heads, build
from trainers.spec import Experiment
from trainers.unified import UnifiedEmbedding


class Stopped(Exception):
    """Raised by a `watch` to end a training that nobody needs any more."""


@dataclass(frozen=True)
class Job:
    """One model: on what it is trained, by what it is stopped, on what it is asked."""

    experiment: Experiment
    features: Sequence[np.ndarray]
    """For each view of the experiment float32 [utterances, layers, dim]; shared by the jobs of one experiment."""
    goals: Sequence[Targets]
    """The tasks of this model."""
    seed: int
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    """Utterance numbers; empty where the model itself is wanted, and not its answers."""
    fold: int | None
    """Number of the fold; None for the model that is trained on everything."""


@dataclass(frozen=True)
class Trained:
    """What came of a job."""

    model: Heads | UnifiedEmbedding | None
    """Only of a job without test utterances: the others' would be in nobody's use."""
    curve: list[tuple[int, float, float]]
    """Epoch, training loss, validation loss."""
    answers: dict[str, np.ndarray]
    """For each task its outputs for the test utterances: see `trainers.fit.outputs`."""
    seconds: float
    error: TrainingError | None = None
    """Why there is none of all this."""


def train_all(jobs: Iterable[Job], workers: int) -> Iterator[Trained]:
    """Trains in the order of the jobs; the next ones are asked for while earlier ones run.

    The same jobs give the same models to the bit on one machine, whatever the number of workers.

    Args:
        jobs: may be made as they are asked for, which then happens in a thread of its own.
        workers: processes side by side, one thread each: heads are too small to share a core's work.

    Raises:
        TrainingError: a worker process was ended from outside.
    """
    yield from side_by_side((delayed(train)(job) for job in jobs), workers)


def side_by_side(calls: Iterable, workers: int) -> Iterator:
    """What joblib's delayed calls return, in their order, from so many processes.

    Raises:
        TrainingError: a worker process was ended from outside.
    """
    # Features are mapped into each worker, copy on write: PyTorch wants them writable, and nobody writes.
    parallel = Parallel(n_jobs=workers, return_as="generator", batch_size=1, mmap_mode="c")
    try:
        yield from parallel(calls)
    except BrokenProcessPool as error:
        raise TrainingError(
            "a worker process was ended from outside, most likely for want of memory: what is written stays, and the "
            "same command goes on from there; lower train.workers in params.yaml"
        ) from error


def train(job: Job, watch: Callable[[int, float], None] = lambda epoch, valid_loss: None) -> Trained:
    """Trains one model, on one thread.

    Args:
        job: what to train.
        watch: see `trainers.fit.fit`.

    Raises:
        Stopped: by `watch`; every other error is handed over in what is returned.
    """
    keep_memory()
    started, threads = time.monotonic(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            torch.manual_seed(job.seed)
            shapes = [f.shape[1:] for f in job.features]
            model = build(shapes, job.experiment, {goal.name: goal.num_outputs for goal in job.goals})
            model.prepare(job.features, job.train)
            tensors = [torch.from_numpy(f if f.flags.writeable else f.copy()) for f in job.features]
            curve = fit(model, tensors, job.goals, job.train, job.valid, job.experiment, job.seed, watch)
            wanted = len(job.test) == 0
            answers = {} if wanted else outputs(model, tensors, job.test)
    except Stopped:
        raise
    except TrainingError as error:  # handed on, not raised: the other jobs go on
        return Trained(None, [], {}, time.monotonic() - started, error)
    except Exception as error:  # memory, most likely: one experiment's trouble is not the others'
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name} line {place.lineno}"
        told = TrainingError(f"{type(error).__name__} in training, {where}: {' '.join(str(error).split())[:300]}")
        return Trained(None, [], {}, time.monotonic() - started, told)
    finally:
        torch.set_num_threads(threads)
    return Trained(model if wanted else None, curve, answers, time.monotonic() - started)
