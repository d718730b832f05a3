import numpy as np
import pytest
import torch

from strata.trainers.inputs.batches import batches, gathered
from strata.trainers.inputs.data import TrainingError
from strata.trainers.inputs.pooled import InMemory, Pooled, as_pooled

SIZES = {"keyword": 61, "speaker": 23, "emotion": 5}  # a composite set: every utterance has exactly one label
NUM = sum(SIZES.values())
OWNER = np.repeat(np.arange(3), list(SIZES.values()))
KNOWN = np.arange(3)[:, None] == OWNER
TRAIN = np.random.default_rng(0).permutation(NUM)[:83]
SIZE = 13


def _epochs(kind, known=KNOWN, count=1, size=SIZE, seed=3):
    made = batches(kind, TRAIN, known, size, seed)
    return [[rows.numpy() for rows in made] for _ in range(count)]


def test_shuffled_batches_are_those_of_a_plain_permutation():
    """To the number: one permutation an epoch from one seeded generator, cut into pieces."""
    generator = torch.Generator().manual_seed(3)
    for epoch in _epochs("shuffled", count=3):
        expected = torch.from_numpy(TRAIN)[torch.randperm(len(TRAIN), generator=generator)].split(SIZE)
        assert [rows.tolist() for rows in epoch] == [rows.tolist() for rows in expected]


def test_every_balanced_batch_has_as_many_of_each_task():
    """However few a task has; nothing but training utterances, and as many batches as shuffled ones."""
    for epoch in _epochs("balanced", count=3):
        assert len(epoch) == len(_epochs("shuffled")[0]) == 7
        for rows in epoch:
            assert np.bincount(OWNER[rows], minlength=3).tolist() == [4, 4, 4]  # of 13: one place stays empty
            assert set(rows) <= set(TRAIN)


@pytest.mark.parametrize("task", range(3))
def test_a_tasks_utterances_take_turns(task):
    """None comes again before all have come, across batches and epochs; and each turn has its own order."""
    drawn = np.concatenate([rows[OWNER[rows] == task] for epoch in _epochs("balanced", count=12) for rows in epoch])
    mine = sorted(TRAIN[OWNER[TRAIN] == task])
    turns = [drawn[i : i + len(mine)] for i in range(0, len(drawn) - len(mine) + 1, len(mine))]
    assert len(turns) >= 5
    assert all(sorted(turn) == mine for turn in turns)
    assert len({tuple(turn) for turn in turns}) > len(turns) / 2  # five utterances have only 120 orders


def test_an_utterance_of_several_tasks_is_drawn_for_each():
    """Where all are labelled for all, two tasks draw half a batch each, from the same utterances."""
    everyone = np.ones(NUM, bool)
    drawn = np.concatenate(_epochs("balanced", np.stack([everyone, everyone]), count=83, size=2)[0])
    assert len(drawn) == 84
    turns = drawn[::2], drawn[1::2]
    assert all(len(set(turn)) == 42 for turn in turns)
    assert turns[0].tolist() != turns[1].tolist()


def test_a_task_without_labels_has_no_share():
    """The others divide the batch; where no task has any, all utterances are drawn."""
    nobody = np.zeros(NUM, bool)
    for rows in _epochs("balanced", np.stack([KNOWN[0], nobody, KNOWN[2]]))[0]:
        assert np.bincount(OWNER[rows], minlength=3).tolist() == [6, 0, 6]
    (epoch,) = _epochs("balanced", np.stack([nobody, nobody]))
    assert len(set(np.concatenate(epoch))) == len(TRAIN)


def test_the_seed_decides_all():
    """The same one gives the same batches, another one others."""
    one, again, other = (_epochs("balanced", count=2, seed=seed) for seed in (5, 5, 7))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_batch_too_small_for_all_tasks_is_refused():
    """In one line, before any training."""
    with pytest.raises(TrainingError, match=r"at least one per task: expected 3 or more, found 2"):
        batches("balanced", TRAIN, KNOWN, 2, 0)


class InRuns(InMemory):
    """Values of which four neighbours are read together."""

    run = 4


def test_runs_stay_together_and_come_in_a_new_order():
    """Every utterance once an epoch; those of a run follow each other; which run is where, chance decides anew."""
    view = Pooled(InRuns(np.zeros((NUM, 1, 1), np.float32)), np.random.default_rng(5).permutation(NUM))
    made = batches("shuffled", TRAIN, KNOWN, SIZE, 3, [view])
    epochs = [np.concatenate([rows.numpy() for rows in made]) for _ in range(2)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(TRAIN)
        runs = view.rows[epoch] // 4
        assert (np.diff(runs) != 0).sum() + 1 == len(set(runs)) < len(TRAIN)
    orders = [dict.fromkeys(view.rows[epoch] // 4) for epoch in epochs]
    assert list(orders[0]) != list(orders[1])
    assert any(  # within a run, too
        [row for row in epochs[0] if view.rows[row] // 4 == run]
        != [row for row in epochs[1] if view.rows[row] // 4 == run]
        for run in orders[0]
    )


def test_values_come_with_their_batch(monkeypatch):
    """In the order of the batches; the next one is expected before a batch is there."""
    a, b = np.arange(NUM * 6.0).reshape(NUM, 2, 3), np.arange(NUM * 5.0).reshape(NUM, 1, 5)
    made = list(batches("shuffled", TRAIN, KNOWN, SIZE, 3))
    expected = []
    monkeypatch.setattr(InMemory, "expect", lambda _, rows: expected.append(rows.tolist()))
    seen = 0
    for rows, (x, y) in gathered([as_pooled(a), as_pooled(b)], made):
        assert rows.tolist() == made[seen].tolist()
        np.testing.assert_array_equal(x, a[rows])
        np.testing.assert_array_equal(y, b[rows])
        seen += 1
        assert expected[::2] == expected[1::2] == [rows.tolist() for rows in made[: seen + 1]]
    assert seen == len(made) == 7
    assert list(gathered([as_pooled(a)], [])) == []
