"""Recursive layer elimination against separate plain trainings (DESIGN §11).

On the demo corpus with a 25-layer WavLM of random weights: the whole elimination, 25 rounds of three seeds, beside 25
trainings of a plain PyTorch loop on the very subsets that its rounds had. And at the widths and batch size that wavCSE
publishes, on noise: single trainings on some numbers of layers, from which the time of all 25 rounds follows, with few
classes and with many. Neither side stops early; both make the same updates (`tests/trainers/test_together.py`).
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch

from benchmarks import plain_unified, write_table
from strata.pipeline.stages import corpus, extract
from strata.pipeline.study import yaml12
from strata.pipeline.study.folder import Study
from strata.pipeline.study.layers import layer_names
from strata.pipeline.study.sources import Sources
from strata.trainers.folds import cross_validation
from strata.trainers.inputs.data import Dataset, targets_of
from strata.trainers.search.rounds import Key, eliminate
from strata.trainers.spec import Elimination, Folds, Task
from strata.trainers.training.together import Run, Together

COMMAND = "python -m benchmarks.elimination"
TASKS = {name: Task(kind="classification") for name in ("speaker", "keyword", "style")}
SEEDS = (0, 1, 2)
NUM_LAYERS = 25
PUBLISHED_DIM, PUBLISHED_BATCH = 1024, 2048
FEW = {"speaker": 10, "keyword": 30, "style": 4}
MANY = {"speaker": 1251, "keyword": 30, "style": 4}
"""Classes: of IEMOCAP's speakers, and of VoxCeleb1's, whose outputs are as much work as FC1 on several layers."""
MEASURED_LAYERS = (25, 17, 9, 1)
"""Numbers of layers that are measured at the published widths; between them the time is taken to be linear."""
EPOCHS = 5
"""Of every training on the demo corpus."""
REACH = "≥ 10×"


def main() -> None:
    """Measures and writes the table."""
    torch.set_num_threads(1)  # of several, each waits for all others: what else a machine does would be measured
    rows = [_demo(), _published(FEW), _published(MANY)]
    write_table(
        "Layer elimination",
        COMMAND,
        ["data", "trainings", "plain loop, 25 trainings", "ours", "a training", "ratio of a training", "reach"],
        rows,
        "The plain loop: FC1 on every layer and the average after it, `DataLoader`, penalties by autograd, Adam as it "
        "comes, one model at a time.\nOurs: the average first, FC2 and outputs multiplied with each "
        "other, the models of a round in one stack. The average saves FC1 on all layers but one:\nat 32 dimensions "
        "both spend their time on the 2000 numbers of FC2, and with VoxCeleb1's speakers on the outputs. Measured on "
        "one core, beside other work.",
    )


def _demo() -> list[str]:
    """The whole elimination on the demo corpus."""
    with tempfile.TemporaryDirectory() as folder:
        data, layers = _features(Path(folder))
    how = Elimination(
        view="wavlm", tasks=list(TASKS), folds=Folds(given="split"), seeds=list(SEEDS), epochs=EPOCHS, patience=EPOCHS
    )
    subsets: dict[int, tuple[int, ...]] = {}

    def note(key: Key, found) -> None:
        subsets[key.number] = tuple(layers.index(layer) for layer in found.weights)

    started = perf_counter()
    eliminate(how, TASKS, data, layers, note=note)
    ours = perf_counter() - started
    targets = [targets_of(name, TASKS[name], data.labels) for name in how.tasks]
    (fold,) = cross_validation(data.labels, data.contents, how.folds)
    started = perf_counter()
    for subset in subsets.values():
        plain_unified.train(how, targets, data.features["wavlm"], fold, subset, SEEDS[0])
    plain = perf_counter() - started
    count = NUM_LAYERS * len(SEEDS)
    name = f"demo corpus (synthetic), {len(data)} utterances, 25 × 32, batches of {how.batch_size}, {EPOCHS} epochs"
    return _row(name, f"{NUM_LAYERS} rounds × {len(SEEDS)} seeds", plain, ours, count)


def _features(folder: Path) -> tuple[Dataset, list[str]]:
    sections = {
        "corpora": {"demo": {"adapter": "demo"}},
        "views": {"wavlm": {"family": "transformers", "source": "miniature:wavlm-large"}},
        "tasks": {name: {"kind": "classification"} for name in TASKS},
    }
    (folder / "params.yaml").write_text(yaml12.dump(sections))
    study = Study(folder / "params.yaml")
    corpus.run(study)
    extract.run(study, [])
    sources = Sources(study)
    table, views = sources.select(["wavlm"], TASKS, Folds(given="split"))
    layers = layer_names(views["wavlm"].store, "all")
    return sources.dataset(table, views, {"wavlm": layers}), list(layers)


def _published(num_classes: Mapping[str, int]) -> list[str]:
    """Single trainings at the published widths."""
    rng = np.random.default_rng(0)
    count = 2 * PUBLISHED_BATCH + 256  # two steps an epoch
    labels = pd.DataFrame(
        {name: rng.permutation(np.arange(count) % classes).astype(str) for name, classes in num_classes.items()}
    )
    labels["split"] = np.where(np.arange(count) < 256, "valid", "train")
    labels.loc[:31, "split"] = "test"
    values = rng.normal(size=(count, NUM_LAYERS, PUBLISHED_DIM)).astype(np.float32)
    how = Elimination(
        view="v", tasks=list(TASKS), folds=Folds(given="split"), epochs=1, patience=1, batch_size=PUBLISHED_BATCH
    )
    targets = [targets_of(name, TASKS[name], labels) for name in how.tasks]
    (fold,) = cross_validation(labels, [str(i) for i in range(count)], how.folds)
    together = Together(how, targets, values, [fold])
    together.train([Run(0, (0,), 0)])  # standardises the layers once, as an elimination does
    times = {"plain": [], "ours": []}
    for number in MEASURED_LAYERS:
        subset = tuple(range(number))
        started = perf_counter()
        plain_unified.train(how, targets, values, fold, subset, 0)
        times["plain"].append(perf_counter() - started)
        started = perf_counter()
        together.train([Run(0, subset, seed) for seed in SEEDS])
        times["ours"].append((perf_counter() - started) / len(SEEDS))
    plain, ours = (_all_rounds(found) for found in times.values())
    name = f"noise, {count} utterances, 25 × {PUBLISHED_DIM}, batches of {PUBLISHED_BATCH}, "
    name += f"{sum(num_classes.values())} classes"
    return _row(name, "25 of each, 2 steps each", plain, ours, NUM_LAYERS)


def _all_rounds(times: Sequence[float]) -> float:
    """Seconds of one training on each number of layers from 25 to 1."""
    every = np.arange(1, NUM_LAYERS + 1)
    return float(np.interp(every, MEASURED_LAYERS[::-1], times[::-1]).sum())


def _row(name: str, trainings: str, plain: float, ours: float, count: int) -> list[str]:
    one_plain, one_of_ours = plain / NUM_LAYERS, ours / count
    return [
        name,
        trainings,
        f"{plain:.1f} s",
        f"{ours:.1f} s",
        f"{one_plain:.2f} s against {one_of_ours:.2f} s",
        f"**{one_plain / one_of_ours:.1f}×**",
        REACH,
    ]


if __name__ == "__main__":
    main()
