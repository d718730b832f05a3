"""Folds of corpora as they are: few of a kind, large groups, shares of any size, rows in any order."""

import itertools

import numpy as np
import pandas as pd
import pytest

from strata.trainers.folds import cross_validation, hold_out, notes_on
from strata.trainers.folds.groups import Utterances
from strata.trainers.inputs.data import TrainingError
from strata.trainers.spec import Folds


def names(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def unheard(labels: pd.DataFrame, fold, *columns: str) -> int:
    """Utterances validated or tested of which nobody of the same labels trains."""
    whose = labels[list(columns)].astype(str).agg(" ".join, axis=1)
    heard = set(whose.iloc[fold.train])
    return int((~whose.iloc[np.concatenate([fold.valid, fold.test])].isin(heard)).sum())


@pytest.mark.parametrize(
    ("num_speakers", "each", "k", "validation"),
    [(100, 3, 5, 0.1), (100, 3, 5, 0.4), (211, 3, 10, 0.2), (67, 4, 5, 0.1), (31, 5, 7, 0.3), (53, 2, 3, 0.1)],
)
def test_of_few_utterances_each_every_speaker_is_heard(num_speakers, each, k, validation):
    """Fewer than there are parts: tested and validated utterances are of speakers who train, as far as there are any.

    Of two utterances one is tested while the other trains, and none of these is held out.
    """
    labels = pd.DataFrame({"speaker": [f"s{i % num_speakers}" for i in range(num_speakers * each)]})
    folds = cross_validation(labels, names(len(labels)), Folds(k=k, stratify="speaker", validation=validation))
    assert sum(unheard(labels, fold, "speaker") for fold in folds) == 0
    sizes = [len(fold.test) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    assert all(labels["speaker"].iloc[fold.test].value_counts().max() == -(-each // k) for fold in folds)


def test_combined_labels_too_rare_to_divide_still_count():
    """Each speaker says each emotion once: speakers and emotions are spread as evenly as their numbers allow."""
    table = pd.DataFrame(itertools.product(range(40), "abcde"), columns=["speaker", "emotion"])
    table["speaker"] = table["speaker"].map("s{}".format)
    for fold in cross_validation(table, names(200), Folds(stratify=["speaker", "emotion"])):
        assert (table["speaker"].iloc[fold.test].value_counts() == 1).all()
        counts = table["emotion"].iloc[fold.test].value_counts()
        assert counts.max() - counts.min() <= 2
        assert unheard(table, fold, "speaker") == unheard(table, fold, "emotion") == 0


@pytest.mark.parametrize("seed", range(4))
def test_every_level_of_combined_labels_is_within_one(seed):
    """Random corpora of utterances on their own: combinations, first labels and sizes, rounded up or down."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"a": rng.zipf(1.5, 300) % 41, "b": rng.integers(0, 7, 300)}).astype(str)
    k = int(rng.integers(2, 9))
    part = np.empty(300, np.int64)
    for number, fold in enumerate(cross_validation(table, names(300), Folds(k=k, stratify=["a", "b"], seed=seed))):
        part[fold.test] = number
    for columns in ([], ["a"], ["a", "b"]):
        which = table[columns].agg(" ".join, axis=1) if columns else pd.Series([""] * 300)
        counts = pd.crosstab(which, part).to_numpy()
        assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 1


def test_no_part_of_few_large_groups_is_empty():
    """Six speakers of very different size in five parts: each tests someone, whatever they are stratified by."""
    for case, stratify in itertools.product((0, 9, 21), (None, "emotion", "speaker", ["speaker", "emotion"])):
        rng = np.random.default_rng(case)
        speakers = np.repeat(list("abcdef"), (2, 7, 5, 1, 6, 2))
        rng.shuffle(speakers)
        labels = pd.DataFrame({"speaker": speakers})
        labels["emotion"] = rng.choice(list("wxy"), len(labels))
        folds = Folds(stratify=stratify, disjoint="speaker", seed=case % 5)
        for fold in cross_validation(labels, names(len(labels)), folds):
            assert min(map(len, (fold.train, fold.valid, fold.test))) > 0


@pytest.mark.parametrize("seed", range(12))
def test_random_corpora_are_divided_without_leaks(seed):
    """Shared recordings and speakers together: all tested once, nothing on two sides, no part empty, sizes near."""
    rng = np.random.default_rng(seed)
    size, k = int(rng.integers(20, 150)), int(rng.integers(2, 8))
    labels = pd.DataFrame({"speaker": rng.zipf(1.7, size) % 31, "emotion": rng.choice(["x", "y", None], size)})
    contents = [f"c{number}" for number in rng.integers(0, 3 * size, size)]
    disjoint = "speaker" if seed % 2 else None
    how = Folds(k=k, stratify=(None, "emotion", ["speaker", "emotion"])[seed % 3], disjoint=disjoint, seed=seed)
    if disjoint and len(np.unique(Utterances(labels, contents, how).groups)) < max(3, k + (k == 2) * 2):
        with pytest.raises(TrainingError, match="cannot be divided"):
            cross_validation(labels, contents, how)
        return
    folds = cross_validation(labels, contents, how)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(size))
    together = pd.DataFrame({"content": contents, "speaker": labels["speaker"] if disjoint else contents})
    for fold in folds:
        assert sorted(np.concatenate([fold.train, fold.valid, fold.test])) == list(range(size))
        assert min(map(len, (fold.train, fold.valid, fold.test))) > 0
        for column in together:
            sides = [set(together[column].iloc[rows]) for rows in (fold.train, fold.valid, fold.test)]
            assert sum(map(len, sides)) == len(set.union(*sides))
    if not disjoint and how.stratify is None:
        tested = [len(fold.test) for fold in folds]
        assert max(tested) - min(tested) <= pd.Series(contents).value_counts().max()


@pytest.mark.parametrize("share", [0.04, 0.1, 0.15, 0.25, 0.3, 0.35, 0.4, 0.45, 0.49])
def test_the_share_asked_for_is_held_out(share):
    """Of utterances within one of them, of every class as well; of larger groups within one group."""
    rng = np.random.default_rng(0)
    labels = pd.DataFrame({"emotion": rng.choice(list("abc"), 251, p=[0.7, 0.2, 0.1])})
    for seed in range(3):
        how = Folds(stratify="emotion", seed=seed)
        kept, held = hold_out(labels, names(251), how, np.arange(251), share)
        assert len(held) == pytest.approx(share * 251, abs=1)
        counts = labels["emotion"].value_counts()
        for emotion, number in labels["emotion"].iloc[held].value_counts().items():
            assert number == pytest.approx(share * counts[emotion], abs=1)
        assert sorted([*kept, *held]) == list(range(251))
        contents = [f"c{number}" for number in rng.integers(0, 90, 251)]
        most = int(pd.Series(contents).value_counts().max())
        held = hold_out(labels, contents, Folds(seed=seed), np.arange(251), share)[1]
        assert len(held) == pytest.approx(share * 251, abs=most)
    (fold,) = [fold for fold in cross_validation(labels, names(251), Folds(k=3, validation=share)) if 250 in fold.test]
    assert len(fold.valid) == pytest.approx(share * (251 - len(fold.test)), abs=1)


@pytest.mark.parametrize(
    "how",
    [
        Folds(k=4, validation=0.3),
        Folds(k=4, stratify=["speaker", "emotion"]),
        Folds(k=4, stratify="emotion", disjoint="speaker"),
        Folds(given="split", k=4),
        Folds(given="split", disjoint="speaker", k=4),
    ],
)
def test_the_order_of_the_rows_has_no_say(how):
    """The same utterances in another order are divided alike, shared recordings among them."""
    rng = np.random.default_rng(1)
    labels = pd.DataFrame(
        {
            "speaker": rng.choice(list("abcdefghijklmn"), 97),
            "emotion": rng.choice(["x", "y", None], 97),
            "split": None,
        }
    )
    contents = np.array([f"c{number}" for number in rng.integers(0, 400, 97)], dtype=object)
    corpora = np.array(["one", "two"], dtype=object)[rng.integers(0, 2, 97)]
    plain = cross_validation(labels, contents.tolist(), how, corpora=corpora.tolist())
    order = rng.permutation(97)
    other = cross_validation(
        labels.iloc[order].reset_index(drop=True), contents[order].tolist(), how, corpora=corpora[order].tolist()
    )
    for one, two in zip(plain, other, strict=True):
        for side in ("train", "valid", "test"):
            assert getattr(one, side).tolist() == sorted(order[getattr(two, side)])


@pytest.mark.parametrize("how", [Folds(given="split"), Folds(k=5), Folds(k=5, stratify="label")])
def test_another_seed_is_another_split(how):
    """Two seeds test a fifth each, and a fifth of that is the same: whatever the two seeds are."""
    labels = pd.DataFrame({"split": [None] * 2000, "label": [str(i % 7) for i in range(2000)]})
    tests = [
        set(cross_validation(labels, names(2000), how.model_copy(update={"seed": seed}))[0].test) for seed in range(9)
    ]
    for one, two in itertools.combinations(tests, 2):
        assert len(one & two) / len(one) == pytest.approx(0.2, abs=0.09)


def test_another_seed_groups_few_speakers_otherwise():
    """Also where the sizes differ so much that the most even division is one alone."""
    labels = pd.DataFrame({"speaker": np.repeat([f"s{i}" for i in range(12)], range(20, 44, 2))})
    found = set()
    for seed in range(8):
        folds = cross_validation(labels, names(len(labels)), Folds(k=3, disjoint="speaker", seed=seed))
        found.add(frozenset(frozenset(labels["speaker"].iloc[fold.test]) for fold in folds))
        sizes = [len(fold.test) for fold in folds]
        assert max(sizes) - min(sizes) <= 42
    assert len(found) >= 4


def test_a_recording_shared_by_two_corpora_leaves_both_their_validation_parts():
    """Both train on it and name no validation part: the one's share, in which it lies, is none of the other's."""
    contents = [*names(160), *[f"d{number}" for number in range(159)], "c0"]
    corpora = ["one"] * 160 + ["two"] * 160
    labels = pd.DataFrame({"split": np.repeat(["train", "test", "train"], [140, 40, 140])})
    shared = 0
    for seed in range(12):
        (fold,) = cross_validation(labels, contents, Folds(given="split", seed=seed), corpora=corpora)
        counts = pd.Series(corpora)[fold.valid].value_counts()
        assert counts["one"] == pytest.approx(14, abs=1)
        assert counts["two"] == pytest.approx(14, abs=1)
        shared += {0, 319} <= set(fold.valid)
        assert len({0, 319} & set(fold.valid)) != 1
    assert shared


def test_what_hangs_together_without_a_split_is_drawn_as_one():
    """Two speakers of one recording are on the side of one of them, and about one in k is tested."""
    labels = pd.DataFrame({"split": [None] * 800, "speaker": [f"s{i}" for i in range(800)]})
    contents = [f"c{i // 2}" for i in range(800)]
    (fold,) = cross_validation(labels, contents, Folds(given="split", disjoint="speaker"))
    assert {i // 2 for i in fold.test}.isdisjoint(i // 2 for i in [*fold.train, *fold.valid])
    assert len(fold.test) / 800 == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize(
    ("speakers", "k", "message"),
    [
        ("aab", 2, "2 values of 'speaker' cannot be divided into 2 parts: training, validation and test need one each"),
        ("aaa", 2, "1 value of 'speaker' cannot be divided into 2 parts: training, validation and test need one each"),
        ("aabc", 2, "3 values of 'speaker' cannot be divided into 2 parts .* raise folds.k to 3"),
        ("abcd", 7, "4 values of 'speaker' cannot be divided into 7 parts; lower folds.k to 4 or less"),
    ],
)
def test_too_few_are_told_what_helps(speakers, k, message):
    """Lower k, raise k, or neither; and in good grammar."""
    labels = pd.DataFrame({"speaker": list(speakers)})
    with pytest.raises(TrainingError, match=message):
        cross_validation(labels, names(len(labels)), Folds(k=k, disjoint="speaker"))


def test_what_is_advised_works():
    """Three speakers in three parts; four in two, however different their sizes are."""
    three, four = (pd.DataFrame({"speaker": list(speakers)}) for speakers in ("aabc", "aaaaaaaaaabcd"))
    assert len(cross_validation(three, names(4), Folds(k=3, disjoint="speaker"))) == 3
    for fold in cross_validation(four, names(13), Folds(k=2, disjoint="speaker")):
        assert min(map(len, (fold.train, fold.valid, fold.test))) > 0


def test_copies_of_one_recording_are_counted_as_one():
    """The message does not speak of more than can be divided."""
    with pytest.raises(TrainingError, match="2 utterances, counting what shares audio as one, cannot be divided"):
        cross_validation(pd.DataFrame({"x": range(9)}), ["a", "b", "b"] * 3, Folds(k=3))


def test_no_class_is_held_out_whole_where_others_can_spare_a_group():
    """Groups of very unequal size: whoever has several is heard in training, and the share is about right."""
    rng = np.random.default_rng(0)
    for seed in range(20):
        contents, speakers = [], []
        for speaker in range(40):
            for take in range(int(rng.integers(2, 5))):
                size = int(rng.choice([1, 1, 1, 2, 9]))
                contents += [f"c{speaker}.{take}"] * size
                speakers += [f"s{speaker}"] * size
        labels = pd.DataFrame({"speaker": speakers})
        how = Folds(stratify="speaker", seed=seed)
        kept, held = hold_out(labels, contents, how, np.arange(len(labels)), 0.45)
        assert set(labels["speaker"].iloc[held]) <= set(labels["speaker"].iloc[kept])
        assert len(held) == pytest.approx(0.45 * len(labels), abs=20)


def test_who_validates_and_is_never_heard_is_told():
    """Where the share cannot be had otherwise, with how many, one of them, and the way out; else nothing is said."""
    labels = pd.DataFrame({"speaker": [f"s{i % 101}" for i in range(202)]})
    how = Folds(k=5, stratify="speaker", validation=0.45)
    folds = cross_validation(labels, names(202), how)
    silent = [set(labels["speaker"].iloc[f.valid]) - set(labels["speaker"].iloc[f.train]) for f in folds]
    (note,) = notes_on(folds, labels, names(202), how)
    largest = max(silent, key=len)
    assert f" validates {len(largest)} of 101 values of 'speaker' that it does not train (" in note
    assert note.split("(")[1].split(",")[0] in largest
    assert "folds.validation is 0.45" in note
    assert note.endswith("lower it, or add data")
    fine = Folds(k=5, stratify="speaker", validation=0.1)
    assert notes_on(cross_validation(labels, names(202), fine), labels, names(202), fine) == ()


def test_utterances_without_a_label_are_no_class_that_nobody_trains():
    """In composite data sets most labels have gaps: what lacks one is divided, and named in no note."""
    speaker = [None if i % 101 < 7 else f"s{i % 101}" for i in range(202)]
    for labels in (pd.DataFrame({"speaker": speaker}), pd.DataFrame({"speaker": speaker}, dtype=object)):
        how = Folds(k=5, stratify="speaker", validation=0.45)
        folds = cross_validation(labels, names(202), how)
        silent = [
            {*labels["speaker"].iloc[f.valid].dropna()} - {*labels["speaker"].iloc[f.train].dropna()} for f in folds
        ]
        (note,) = notes_on(folds, labels, names(202), how)
        assert f" validates {max(map(len, silent))} of 94 values of 'speaker' that it does not train (s" in note
        assert notes_on(folds, labels, names(202), Folds(k=5)) == ()


def test_lopsided_folds_are_told():
    """One speaker who has most of a corpus cannot be divided: how large the parts are, and because of whom."""
    labels = pd.DataFrame({"speaker": np.repeat(["a", "b", "c", "d", "e", "f"], (300, 20, 20, 20, 20, 20))})
    how = Folds(k=5, disjoint="speaker")
    (note,) = notes_on(cross_validation(labels, names(400), how), labels, names(400), how)
    assert note.startswith("the folds test 20 to 300 of 400 utterances, and count alike: 'speaker' a, which is never")
    assert "comes to 300; lower folds.k" in note
    even = pd.DataFrame({"speaker": np.repeat(list("abcdefghij"), 40)})
    assert notes_on(cross_validation(even, names(400), how), even, names(400), how) == ()
