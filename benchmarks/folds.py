"""Dividing many utterances, some of which share a recording, against scikit-learn without any such (DESIGN §11).

Five folds stratified by speaker, each with a validation part: ours keeps recordings together that scikit-learn is not
told of, and divides the same utterances in whatever order they come.
"""

import os
import statistics
from collections.abc import Callable
from functools import partial
from time import perf_counter, process_time

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, train_test_split

from benchmarks import write_table
from strata.trainers.folds import cross_validation
from strata.trainers.folds.shared import division
from strata.trainers.inputs.data import Dataset
from strata.trainers.spec import Folds

COMMAND = "python -m benchmarks.folds"
SIZE, SPEAKERS, SHARED = 150_000, 1251, (0, 1, 3000)
ROUNDS = 3
K, SHARE = 5, 0.1
HOWS = {
    "stratified": Folds(k=K, stratify="speaker", validation=SHARE),
    "as given": Folds(given="split", validation=SHARE),
    "half given": Folds(given="half", validation=SHARE),
}


def main() -> None:
    """Measures and writes the table."""
    ways: dict[str, Callable[[], object]] = {}
    for shared in SHARED:
        data = _utterances(shared)
        for name in HOWS if shared == SHARED[-1] else ["stratified"]:
            ways[f"{name}, {shared} recordings twice"] = partial(
                cross_validation, data.labels, data.contents, HOWS[name]
            )
    _ = division(data, HOWS["stratified"]).folds  # what all cells share
    ways["a further cell of a grid"] = lambda: division(_utterances_again(data), HOWS["stratified"]).folds
    speakers = pd.factorize(data.labels["speaker"])[0]  # numbers, which it takes faster than names
    wall: dict[str, list[float]] = {"scikit-learn": [], **{name: [] for name in ways}}
    cpu = {name: [] for name in wall}
    for _ in range(ROUNDS):
        for name, way in {"scikit-learn": lambda: _by_scikit_learn(speakers), **ways}.items():
            started, begun = perf_counter(), process_time()
            way()
            wall[name].append(perf_counter() - started)
            cpu[name].append(process_time() - begun)
    rows = []
    for name in wall:
        ratio = statistics.median(a / b for a, b in zip(cpu[name], cpu["scikit-learn"], strict=True))
        reach = "≤ 2×" if name.startswith("stratified") else ""
        rows.append([name, *(f"{statistics.median(t[name]):.2f} s" for t in (wall, cpu)), f"**{ratio:.2f}×**", reach])
    write_table(
        "Folds",
        COMMAND,
        ["folds", "time", "processor time", "to scikit-learn's, by processor time", "reach"],
        rows,
        f"{SIZE:,} utterances of {SPEAKERS:,} speakers, {K} folds with a validation part of {SHARE:.0%} each; medians "
        f"of {ROUNDS} rounds in which all take turns.\nscikit-learn: StratifiedKFold, and train_test_split of every "
        "fold's training part; it is given speakers as numbers, and knows nothing of recordings that occur twice.\n"
        "As given: a column names every "
        "utterance's part, or that of half of them. A further cell: a data set of its own, the same utterances, labels "
        f"and section. Load of the machine beside this: {os.getloadavg()[0]:.1f}.",
    )


def _utterances(shared: int) -> Dataset:
    """Utterances without features; so many of the first half have their recording in the second half once more."""
    rng = np.random.default_rng(0)
    speaker = np.arange(SIZE) % SPEAKERS
    split = np.array(["train", "valid", "test"], dtype=object)[np.minimum(speaker % 12 // 5, 2)]
    contents = np.array([f"{number:032x}" for number in rng.permutation(SIZE)], dtype=object)
    first = rng.choice(SIZE // 2, shared, replace=False)
    partner = first + SPEAKERS * (-(-SIZE // 2 // SPEAKERS))  # of the same speaker
    partner = np.where(partner < SIZE, partner, first)
    contents[partner] = contents[first]
    half = np.where((speaker % 2).astype(bool), split, None)
    labels = pd.DataFrame({"speaker": [f"id{number:05d}" for number in speaker], "split": split, "half": half})
    return Dataset([f"corpus/{number}" for number in rng.permutation(SIZE)], contents.tolist(), labels, {})


def _utterances_again(data: Dataset) -> Dataset:
    """As the next cell comes with them."""
    return Dataset(list(data.utterances), list(data.contents), data.labels.copy(), {})


def _by_scikit_learn(speakers: np.ndarray) -> None:
    folds = StratifiedKFold(K, shuffle=True, random_state=0).split(speakers, speakers)
    for train, _ in folds:
        train_test_split(train, test_size=SHARE, stratify=speakers[train], random_state=0)


if __name__ == "__main__":
    main()
