"""Head training against two PyTorch loops, on views of the published widths filled with noise (DESIGN §11).

All make the same updates from the same weights on the same batches (`tests/trainers/test_fast_path.py`): the loop that
one writes first one fold at a time on all cores, the loop with ordinary care and ours one fold per core, in the same
processes. What is timed is an epoch of every fold.
"""

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from benchmarks import plain_heads, write_table
from strata.extractors.speed import count_operations, matrix_rate
from strata.trainers.inputs.data import Targets, targets_of
from strata.trainers.inputs.pooled import as_pooled
from strata.trainers.models.heads import Heads
from strata.trainers.spec import Experiment, Task
from strata.trainers.training.jobs import Job, train
from strata.trainers.training.memory import keep_memory

COMMAND = "python -m benchmarks.heads"
ROUNDS = 3
TASKS = {
    "speaker": Task(kind="classification", weight=0.33),
    "emotion": Task(kind="classification", weight=0.33),
    "gender": Task(kind="binary", weight=0.33),
    "age": Task(kind="regression", weight=0.33),
}
SETUPS = {
    "SVMT": (("trillsson",), None, ""),
    "MVMT-concat": (("x-vector", "trillsson"), "concat", ""),
    "TANGO": (("x-vector", "trillsson"), "ot", "≥ 3×, ≥ 2×"),
}
"""Views, fusion, and the ratios to reach."""
PUBLISHED = {"x-vector": 512, "trillsson": 1024}
MINIATURE = {"x-vector": 128, "trillsson": 128}


def main() -> None:
    """Measures and writes the table."""
    torch.set_num_threads(os.cpu_count() or 1)
    began = os.getloadavg()[0]
    rate = matrix_rate("cpu", "float32")
    rows = []
    for widths, num_utterances, name in ((PUBLISHED, 640, "published"), (MINIATURE, 640, "miniatures")):
        for setup, (views, fusion, reach) in SETUPS.items():
            experiment = Experiment(views=list(views), encoder="cnn", fusion=fusion, tasks=list(TASKS), epochs=1)
            contest = _Contest(experiment, [widths[view] for view in views], num_utterances)
            times = contest.run()
            wall = {way: statistics.median(took.wall for took in found) for way, found in times.items()}
            first, careful = (_ratio(times[way], times["ours"], "wall") for way in ("first", "careful"))
            rows.append(
                [
                    setup,
                    f"{name}: {' + '.join(str(widths[view]) for view in views)}",
                    *(f"{1e3 * wall[way] / contest.num_steps:.1f} ms" for way in ("first", "careful", "ours")),
                    f"**{first:.1f}×**",
                    f"**{careful:.1f}×**",
                    f"{_ratio(times['careful'], times['ours'], 'cpu'):.1f}×",
                    reach if widths is PUBLISHED else "",
                    f"{contest.operations / wall['ours'] / rate:.0%}",
                ]
            )
    header = ["setup", "widths of the views", "first loop, per step", "careful loop", "ours", "to the first"]
    header += ["to the careful", "by processor time", "reach", "of the matrix rate"]
    write_table(
        "Head training",
        COMMAND,
        header,
        rows,
        f"Batches of 32, tasks and loss of TANGO, medians of {ROUNDS} rounds in which all take turns; a step's time is "
        f"that of all folds divided by all their steps.\nMatrix rate: {rate / 1e9:.0f} Gflop/s of float32 products. "
        "The rest goes into passes over memory: Adam alone reads and writes seven times the 10 M weights of TANGO "
        "at these widths, in every step.\nThe loop that one writes first: `nn.Conv1d`, POT's batched Sinkhorn on "
        "logarithms with autograd, `DataLoader`, Adam as it comes, one fold at a time on all cores. The careful loop: "
        "batches by index, fused Adam, Sinkhorn in scaling form under autograd, one fold per core as ours. All stop "
        f"Sinkhorn at the same tolerance.\nLoad of the machine beside this when it began and ended: "
        f"{began:.1f}, {os.getloadavg()[0]:.1f}; processor time, of the careful loop to ours, suffers less from that.",
    )


@dataclass(frozen=True)
class _Took:
    """Seconds that a way to train all folds took."""

    wall: float
    cpu: float
    """Of the processor, in all processes together."""


def _ratio(way: Sequence[_Took], ours: Sequence[_Took], kind: str) -> float:
    """The median over the rounds of how many times as long it takes as ours."""
    return statistics.median(getattr(a, kind) / getattr(b, kind) for a, b in zip(way, ours, strict=True))


class _Contest:
    """Two ways to train the same folds."""

    def __init__(self, experiment: Experiment, dims: list[int], num_utterances: int):
        rng = np.random.default_rng(0)
        labels = pd.DataFrame(
            {
                "speaker": rng.permutation(np.arange(num_utterances) % 90).astype(str),
                "emotion": rng.permutation(np.arange(num_utterances) % 6).astype(str),
                "gender": rng.permutation(np.arange(num_utterances) % 2).astype(str),
                "age": rng.normal(40, 12, num_utterances),
            }
        )
        self.experiment = experiment
        self.targets: list[Targets] = [targets_of(name, task, labels) for name, task in TASKS.items()]
        self.features = [rng.normal(size=(num_utterances, 1, dim)).astype(np.float32) for dim in dims]
        everyone = np.arange(num_utterances)
        self.folds = os.cpu_count() or 1
        features = [as_pooled(values) for values in self.features]
        self.jobs = [
            Job(experiment, features, self.targets, seed, everyone, everyone[:1], everyone[:1], seed)
            for seed in range(self.folds)
        ]
        self.num_steps = self.folds * -(-num_utterances // experiment.batch_size)
        batch = [torch.from_numpy(f[: experiment.batch_size]) for f in self.features]
        # Of the plain model, forward; backward costs two products for each of forward.
        plain = plain_heads.PlainHeads(_heads(self.jobs[0]), experiment)
        self.operations = 3 * count_operations(lambda: plain(*batch)) * self.num_steps

    def run(self) -> dict[str, list[_Took]]:
        """What each way took in each round."""
        times: dict[str, list[_Took]] = {"first": [], "careful": [], "ours": []}
        with Parallel(n_jobs=self.folds, batch_size=1) as parallel:

            def side_by_side(way: Callable[[Job], float]) -> Callable[[], float]:
                return lambda: sum(parallel(delayed(way)(job) for job in self.jobs))

            ways: dict[str, Callable[[], float]] = {
                "first": lambda: sum(_by_loop(job, careful=False) for job in self.jobs),
                "careful": side_by_side(_by_careful_loop),
                "ours": side_by_side(_by_ours),
            }
            for way in ways.values():
                way()  # imports, worker processes, caches
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    started = perf_counter()
                    cpu = way()
                    times[name].append(_Took(perf_counter() - started, cpu))
        return times


def _heads(job: Job) -> Heads:
    torch.manual_seed(0)
    shapes = [f.shape[1:] for f in job.features]
    heads = Heads(shapes, job.experiment, {target.name: target.num_outputs for target in job.targets})
    heads.prepare(job.features, job.train)
    return heads


def _by_ours(job: Job) -> float:
    """Trains a fold; the processor's seconds, as of the others."""
    started = process_time()
    if (found := train(job)).error:
        raise found.error
    return process_time() - started


def _by_careful_loop(job: Job) -> float:
    torch.set_num_threads(1)
    keep_memory()  # of the allocator, as in our processes: whoever looks at a profile once finds it
    return _by_loop(job, careful=True)


def _by_loop(job: Job, careful: bool) -> float:
    started = process_time()
    ages = job.targets[3].values
    known = [target.values for target in job.targets[:3]] + [(ages - ages.mean()) / ages.std()]
    plain_heads.fit(
        plain_heads.PlainHeads(_heads(job), job.experiment, careful),
        [torch.from_numpy(np.array(f)) for f in job.features],
        [torch.from_numpy(np.array(values)) for values in known],
        job.targets,
        torch.from_numpy(np.array(job.train)),
        job.experiment,
        job.seed,
    )
    return process_time() - started


if __name__ == "__main__":
    main()
