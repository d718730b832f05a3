"""Folds that are made once for all who ask, and what it takes to be told apart."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from strata.trainers.folds import cross_validation, digest, hold_out, notes_on, record, shared
from strata.trainers.folds.shared import division
from strata.trainers.inputs.data import Dataset, Segments, TrainingError
from strata.trainers.spec import Folds

SIZE = 67
HOW = Folds(k=3, stratify="emotion", validation=0.2)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """What other tests have divided is not in the way."""
    monkeypatch.setattr(shared, "_kept", type(shared._kept)())


def dataset(**changes) -> Dataset:
    """Every call makes lists and tables of its own."""
    rng = np.random.default_rng(0)
    order = rng.permutation(SIZE)
    contents = [f"c{i}" for i in range(SIZE)]
    contents[5] = contents[50]
    labels = pd.DataFrame({"emotion": rng.choice(["x", "y", None], SIZE), "age": rng.normal(size=SIZE)})
    labels["split"] = [("train", "train", "train", "test")[i % 4] for i in range(SIZE)]
    labels.loc[5, "split"] = labels.loc[50, "split"]
    data = Dataset([f"u{i}" for i in order], contents, labels, {}, ["here"] * SIZE)
    return dataclasses.replace(data, **changes)


def test_a_division_is_that_of_the_functions():
    """Folds and the split of all by the names of the utterances, notes and record as those of the functions."""
    data = dataset()
    found = division(data, HOW)
    folds = cross_validation(data.labels, data.contents, HOW)
    for one, other in zip(found.folds, folds, strict=True):
        for part in ("train", "valid", "test"):
            rows = getattr(one, part)
            np.testing.assert_array_equal(np.sort(rows), getattr(other, part))
            assert [data.utterances[row] for row in rows] == sorted(data.utterances[row] for row in rows)
    kept, held = hold_out(data.labels, data.contents, HOW, np.arange(SIZE), HOW.validation)
    assert {*found.whole.train} == {*kept}
    assert {*found.whole.valid} == {*held}
    assert not len(found.whole.test)
    assert found.notes == notes_on(folds, data.labels, data.contents, HOW)
    assert found.record == record(folds, data.contents)
    assert [data.utterances[row] for row in found.order] == sorted(data.utterances)


def test_of_a_split_that_the_corpus_brings_the_tested_part_is_never_trained_on():
    """Not by the model that is trained on everything either."""
    found = division(dataset(), Folds(given="split"))
    (fold,) = found.folds
    np.testing.assert_array_equal(found.whole.train, fold.train)
    np.testing.assert_array_equal(found.whole.valid, fold.valid)
    assert not len(found.whole.test)


def test_all_who_ask_for_the_same_are_given_the_same(monkeypatch):
    """Whatever features and other labels they come with: nothing is divided twice."""
    calls = []
    real = shared.cross_validation
    monkeypatch.setattr(shared, "cross_validation", lambda *given: calls.append(1) or real(*given))
    first = division(dataset(), HOW)
    assert first.folds is first.folds
    other = dataset(features={"v": np.zeros((SIZE, 1, 3), np.float32)})
    other.labels["age"] = 0.0
    assert division(other, HOW.model_copy()) is first
    assert division(other, HOW).folds is first.folds
    assert calls == [1]


def changed_label(row: int, value: object) -> Dataset:
    data = dataset()
    data.labels.loc[row, "emotion"] = value
    return data


@pytest.mark.parametrize(
    "other",
    [
        lambda: dataset(utterances=[f"u{i}" for i in range(SIZE)]),
        lambda: dataset(contents=[f"c{i}" for i in range(SIZE)]),
        lambda: changed_label(3, "z"),
        lambda: changed_label(3, None),
        lambda: dataset(seen=frozenset(["c7"])),
        lambda: dataset(corpora=["there"] * SIZE),
        lambda: dataset(segments=Segments(["r"] * SIZE, np.arange(SIZE) * 1.0, np.arange(SIZE) + 1.0)),
    ],
)
def test_what_a_division_follows_from_tells_it_apart(other):
    """Utterances, contents, the labels that count, what must not be tested, corpora, segments; and the section."""
    first = division(dataset(), HOW)
    assert dataset().labels["emotion"].iloc[3] not in ("z", None)
    assert division(other(), HOW) is not first
    assert division(dataset(), HOW) is first
    assert division(dataset(), HOW.model_copy(update={"seed": 1})) is not first


def test_nobody_can_change_what_others_look_at():
    """All arrays are read-only."""
    found = division(dataset(), HOW)
    for rows in (*vars(found.folds[0]).values(), found.whole.train, found.order):
        with pytest.raises(ValueError, match="read-only"):
            rows[0] = 0


def test_few_divisions_are_kept():
    """The last ones that were asked for."""
    first = division(dataset(), HOW)
    for seed in range(1, shared.KEPT):
        division(dataset(), HOW.model_copy(update={"seed": seed}))
    assert division(dataset(), HOW) is first
    for seed in range(shared.KEPT, 2 * shared.KEPT):
        division(dataset(), HOW.model_copy(update={"seed": seed}))
    assert len(shared._kept) == shared.KEPT
    assert division(dataset(), HOW) is not first


def test_an_error_is_told_to_everyone_who_asks():
    """And does not pass for a division."""
    how = Folds(k=3, disjoint="emotion")
    for _ in range(2):
        with pytest.raises(TrainingError, match="utterances have no 'emotion'"):
            _ = division(dataset(), how).folds


def test_the_hash_of_folds_is_that_of_the_names_of_their_contents():
    """So results that were written by earlier versions are still compared with those of this one."""
    data = dataset(contents=[*map(str, range(SIZE - 3)), 'quo"te', "1", "ümläut, {"])
    folds = cross_validation(data.labels, data.contents, Folds(k=3))
    sides = [{part: sorted(data.contents[row] for row in rows) for part, rows in vars(fold).items()} for fold in folds]
    assert record(folds, data.contents)["hash"] == digest(sides)


def test_what_becomes_of_the_labels_later_has_no_say():
    """Whoever brought them may go on with them, in a notebook."""
    data, same = dataset(), dataset()
    found = division(data, HOW)
    _ = found.folds
    data.labels["emotion"] = data.labels["emotion"].to_numpy()[::-1]
    wanted = hold_out(same.labels, same.contents, HOW, np.arange(SIZE), HOW.validation)
    assert {*division(same, HOW).whole.valid} == {*wanted[1]}
