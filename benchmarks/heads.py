"""Head training against a plain PyTorch loop, on views of the published widths filled with noise (DESIGN §11).

Both make the same updates from the same weights on the same batches (`tests/trainers/test_fast_path.py`): the plain
loop one fold at a time on all cores, ours one fold per core. What is timed is an epoch of every fold.
"""

import os
import statistics
from collections.abc import Callable
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from benchmarks import plain_heads, write_table
from strata.extractors.speed import count_operations, matrix_rate
from strata.trainers.inputs.data import Targets, targets_of
from strata.trainers.models.heads import Heads
from strata.trainers.spec import Experiment, Task
from strata.trainers.training.jobs import Job, train

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
    "TANGO": (("x-vector", "trillsson"), "ot", "≥ 3×"),
}
"""Views, fusion, and the ratio to reach."""
PUBLISHED = {"x-vector": 512, "trillsson": 1024}
MINIATURE = {"x-vector": 128, "trillsson": 128}


def main() -> None:
    """Measures and writes the table."""
    torch.set_num_threads(os.cpu_count() or 1)
    rate = matrix_rate("cpu", "float32")
    rows = []
    for widths, num_utterances, name in ((PUBLISHED, 640, "published"), (MINIATURE, 640, "miniatures")):
        for setup, (views, fusion, reach) in SETUPS.items():
            experiment = Experiment(views=list(views), encoder="cnn", fusion=fusion, tasks=list(TASKS), epochs=1)
            contest = _Contest(experiment, [widths[view] for view in views], num_utterances)
            ratios, times = contest.run()
            share = contest.operations / times["ours"] / rate
            rows.append(
                [
                    setup,
                    f"{name}: {' + '.join(str(widths[view]) for view in views)}",
                    f"{1e3 * times['plain'] / contest.num_steps:.1f} ms",
                    f"{1e3 * times['ours'] / contest.num_steps:.1f} ms",
                    f"**{statistics.median(ratios):.1f}×**",
                    reach if widths is PUBLISHED else "",
                    f"{share:.0%}",
                ]
            )
    write_table(
        "Head training",
        COMMAND,
        ["setup", "widths of the views", "plain loop, per step", "ours", "ratio", "reach", "of the matrix rate"],
        rows,
        f"Batches of 32, tasks and loss of TANGO, medians of {ROUNDS} rounds; a step's time is that of "
        f"all folds divided by all their steps.\nMatrix rate: {rate / 1e9:.0f} Gflop/s of float32 products. "
        "The rest goes into passes over memory: Adam alone reads and writes seven times the 10 M weights of TANGO "
        "at these widths, in every step.\nThe plain loop: `nn.Conv1d`, POT's batched Sinkhorn on logarithms with "
        "autograd, `DataLoader`, Adam as it comes; both stop Sinkhorn at the same tolerance.",
    )


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
        self.jobs = [
            Job(experiment, self.features, self.targets, seed, everyone, everyone[:1], everyone[:1], seed)
            for seed in range(self.folds)
        ]
        self.num_steps = self.folds * -(-num_utterances // experiment.batch_size)
        batch = [torch.from_numpy(f[: experiment.batch_size]) for f in self.features]
        # Of the plain model, forward; backward costs two products for each of forward.
        plain = plain_heads.PlainHeads(self._heads(), experiment)
        self.operations = 3 * count_operations(lambda: plain(*batch)) * self.num_steps

    def _heads(self) -> Heads:
        torch.manual_seed(0)
        shapes = [f.shape[1:] for f in self.features]
        heads = Heads(shapes, self.experiment, {target.name: target.num_outputs for target in self.targets})
        heads.prepare(self.features, np.arange(len(self.features[0])))
        return heads

    def run(self) -> tuple[list[float], dict[str, float]]:
        """The rounds' ratios of the plain loop's time to ours, and the median seconds of each."""
        times: dict[str, list[float]] = {"plain": [], "ours": []}
        with Parallel(n_jobs=self.folds, batch_size=1) as parallel:
            ways: dict[str, Callable[[], object]] = {
                "plain": self._plain,
                "ours": lambda: parallel(delayed(train)(job) for job in self.jobs),
            }
            for way in ways.values():
                way()  # imports, worker processes, caches
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    started = perf_counter()
                    way()
                    times[name].append(perf_counter() - started)
        ratios = [plain / ours for plain, ours in zip(times["plain"], times["ours"], strict=True)]
        return ratios, {name: statistics.median(found) for name, found in times.items()}

    def _plain(self) -> None:
        ages = self.targets[3].values
        known = [target.values for target in self.targets[:3]] + [(ages - ages.mean()) / ages.std()]
        for job in self.jobs:
            model = plain_heads.PlainHeads(self._heads(), self.experiment)
            plain_heads.fit(
                model,
                [torch.from_numpy(f) for f in self.features],
                [torch.from_numpy(values) for values in known],
                self.targets,
                torch.from_numpy(job.train),
                self.experiment,
                job.seed,
            )


if __name__ == "__main__":
    main()
