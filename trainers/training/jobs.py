"""Models to train, one after the other or side by side: what a worker process is given, and what it gives back.

A job knows its rows and its tasks; which folds there are and what becomes of the outputs is not its business.
"""

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import BrokenProcessPool
from threadpoolctl import threadpool_limits

from strata.trainers.inputs.data import Targets, TrainingError
from strata.trainers.models.heads import Heads, build
from strata.trainers.models.unified import UnifiedEmbedding
from strata.trainers.spec import Experiment
from strata.trainers.training.fit import fit, outputs
from strata.trainers.training.memory import keep_memory


class Stopped(Exception):
    """Raised by a `watch` to end a training that nobody needs any more."""


@dataclass(frozen=True)
class Job:
    """One model: on what it is trained, by what it is stopped, on what it is asked."""

    experiment: Experiment
    features: Sequence[np.ndarray]
    """For each view of the experiment float32 [utterances, layers, dim]; shared by the jobs of one experiment."""
    targets: Sequence[Targets]
    """The tasks of this model."""
    seed: int
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    """Utterance numbers."""
    fold: int | None
    """Number of the fold; None for the model that is trained on everything, which is wanted itself, not its outputs."""


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


def train_all(jobs: Iterable[Job], workers: int) -> Iterator[Trained]:
    """Trains in the order of the jobs; the next ones are asked for while earlier ones run.

    The same jobs give the same models to the bit on one machine, whatever the number of workers. A job that cannot be
    done says so in its own `Trained.error`, and the others are done.

    Args:
        jobs: may be made as they are asked for, which then happens in a thread of its own.
        workers: processes side by side, one thread each: heads are too small to share a core's work.
    """
    for found in side_by_side((delayed(train)(job) for job in jobs), workers):
        yield Trained(None, [], {}, 0.0, told(found)) if isinstance(found, Exception) else found


def side_by_side(calls: Iterable, workers: int) -> Iterator:
    """What joblib's delayed calls return, in their order, from so many processes; of one that raises, its exception.

    A process that is ended from outside, or a call that cannot be handed over (there is no more room in /dev/shm, where
    arrays are shared), takes all processes along and says nothing of whose call it was. Those that were out are then
    made one at a time, each in a process of its own that shares nothing, and the rest side by side again.

    Raises:
        Exception: that of `calls` itself, after what comes of those before it.
    """
    if workers == 1:
        yield from map(_tried, calls)
        return
    _keep_last_words_of_pools()
    waiting = _Calls(calls)
    while not waiting.exhausted:
        # Features are mapped into each worker, copy on write: PyTorch wants them writable, and nobody writes.
        parallel = Parallel(n_jobs=workers, return_as="generator", batch_size=1, mmap_mode="c")
        try:
            for found in parallel(waiting.handed_out()):
                waiting.out.popleft()
                yield found
        except Exception:
            for call in waiting.called_back():
                yield _alone(call)
    if waiting.error:
        raise waiting.error


def _keep_last_words_of_pools() -> None:
    """Keeps from the terminal how the thread ends that managed processes which joblib gave up.

    joblib kills the processes of a call that failed; loky then drops the work that was waiting, looks it up all the
    same by the numbers that are still queued (`process_executor.add_call_item_to_queue`), and its thread ends in a
    KeyError. By then the work has its exception, and nothing waits for the thread.
    """
    former = threading.excepthook
    if getattr(former, "of_pools", False):
        return

    def hook(ended: threading.ExceptHookArgs) -> None:
        managed = ended.thread is not None and ended.thread.name == "ExecutorManagerThread"
        if not (managed and issubclass(ended.exc_type, KeyError)):
            former(ended)

    hook.of_pools = True
    threading.excepthook = hook


class _Calls:
    """Calls on their way: those that are still to come, and those that were handed out and have not come back."""

    def __init__(self, calls: Iterable):
        self.out: deque = deque()
        self.exhausted = False
        self.error: Exception | None = None
        """What kept the next call from being made."""
        self._calls = iter(calls)
        self._round = 0
        self._lock = threading.Lock()  # whoever is handed calls asks for them from several threads

    def handed_out(self) -> Iterator:
        """The calls that are still to come, until these processes' calls are called back."""
        mine = self._round
        while True:
            with self._lock:
                if mine != self._round:
                    return
                try:
                    call = next(self._calls)
                except StopIteration:
                    self.exhausted = True
                    return
                except Exception as error:  # not a call's, and nothing comes after it
                    self.exhausted, self.error = True, error
                    return
                self.out.append(call)
            yield delayed(_tried)(call)

    def called_back(self) -> list:
        """What is out, of which nothing will come any more."""
        with self._lock:
            self._round += 1
            out, self.out = list(self.out), deque()
        return out


def _tried(call: tuple) -> object:
    """What a call returns or raises: raised in a worker, it would end the others."""
    function, arguments, options = call
    try:
        return function(*arguments, **options)
    except Exception as error:
        return error


def _alone(call: tuple) -> object:
    """What a call returns or raises in a process in which nothing else runs, its arrays copied and not shared."""
    try:
        (found,) = Parallel(n_jobs=2, max_nbytes=None)([delayed(_tried)(call)])
    except BrokenProcessPool:
        return TrainingError(
            "a worker process was ended from outside, also with no other beside it, most likely for want of memory: "
            "take fewer layers or utterances, or lower train.workers in params.yaml to 1, which copies nothing"
        )
    except Exception as error:
        return error
    return found


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
    """Trains one model, on one thread.

    Args:
        job: what to train.
        watch: see `training.fit.fit`.

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
            model = build(shapes, job.experiment, {target.name: target.num_outputs for target in job.targets})
            model.prepare(job.features, job.train)
            tensors = [torch.from_numpy(f if f.flags.writeable else f.copy()) for f in job.features]
            curve = fit(model, tensors, job.targets, job.train, job.valid, job.experiment, job.seed, watch)
            wanted = job.fold is None
            found = {} if wanted else outputs(model, tensors, job.test)
            refuse_not_finite(found)
    except Stopped:
        raise
    except Exception as error:  # handed on, not raised: one experiment's trouble is not the others'
        return Trained(None, [], {}, time.monotonic() - started, told(error))
    finally:
        torch.set_num_threads(threads)
    return Trained(model if wanted else None, curve, found, time.monotonic() - started)


def refuse_not_finite(outputs_of: Mapping[str, np.ndarray]) -> None:
    """Raises TrainingError where a task's outputs [rows, outputs] are not all finite: there is no score of them."""
    for task, found in outputs_of.items():
        if wrong := int((~np.isfinite(found)).any(axis=1).sum()):
            raise TrainingError(
                f"task {task}: the outputs for {wrong} of {len(found)} tested utterances are not finite; lower "
                "learning_rate, or look for values beyond reason among the features and labels"
            )
