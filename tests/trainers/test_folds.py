import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.trainers.folds import cross_validation
from strata.trainers.inputs.data import TrainingError
from strata.trainers.spec import Folds


@st.composite
def corpora(draw):
    """Labels of 30 to 90 utterances, some of them the same audio under two names."""
    size = draw(st.integers(30, 90))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    labels = pd.DataFrame(
        {"speaker": rng.choice(list("abcdefghijk"), size), "emotion": rng.choice(["x", "y", None], size)}
    )
    return labels, [str(n) for n in rng.integers(0, 2 * size, size)]


@settings(max_examples=40, deadline=None)
@given(
    corpus=corpora(),
    stratify=st.sampled_from([None, "speaker", "emotion"]),
    disjoint=st.sampled_from([None, "speaker"]),
)
def test_folds_test_everyone_once_and_leak_nothing(corpus, stratify, disjoint):
    """No utterance, no audio and no disjoint label is on two sides; every utterance is tested exactly once."""
    labels, contents = corpus
    try:
        folds = cross_validation(labels, contents, Folds(k=3, stratify=stratify, disjoint=disjoint, validation=0.3))
    except TrainingError:
        assert disjoint  # too few speakers, joined by shared audio
        return
    assert sorted(np.concatenate([f.test for f in folds])) == list(range(len(labels)))
    for fold in folds:
        sides = (fold.train, fold.valid, fold.test)
        assert sorted(np.concatenate(sides)) == list(range(len(labels)))
        assert all(len(side) for side in sides)
        for column in ([contents], [contents, labels["speaker"]])[disjoint is not None]:
            values = [set(np.array(column, object)[side]) for side in sides]
            assert sum(map(len, values)) == len(set.union(*values))


def test_stratified_folds_keep_the_proportions():
    """Every fold has its share of every class."""
    labels = pd.DataFrame({"emotion": ["x"] * 50 + ["y"] * 25})
    for fold in cross_validation(labels, list(map(str, range(75))), Folds(stratify="emotion")):
        assert labels["emotion"].iloc[fold.test].value_counts().to_dict() == {"x": 10, "y": 5}


def test_rare_classes_are_spread_over_the_folds():
    """A class of three is tested in three of five folds, and learned in all; a single one is tested once."""
    labels = pd.DataFrame({"emotion": ["common"] * 39 + ["rare"] * 3 + ["single"]})
    folds = cross_validation(labels, list(map(str, range(43))), Folds(stratify="emotion"))
    tested = [labels["emotion"].iloc[fold.test].value_counts() for fold in folds]
    assert sorted(counts.get("rare", 0) for counts in tested) == [0, 0, 1, 1, 1]
    assert sum(counts.get("single", 0) for counts in tested) == 1
    assert max(counts["common"] for counts in tested) - min(counts["common"] for counts in tested) <= 1


def test_a_combination_of_labels_keeps_the_proportions_of_all():
    """Speaker within emotion; where a combination is too fine to divide, the labels named first count."""
    labels = pd.DataFrame(
        {"speaker": list("ab") * 30, "emotion": list("xxxyyz") * 10, "name": list(map(str, range(60)))}
    )
    for stratify in (["speaker", "emotion"], ["speaker", "emotion", "name"]):
        for fold in cross_validation(labels, labels["name"].tolist(), Folds(stratify=stratify)):
            counts = labels.iloc[fold.test].groupby(["speaker", "emotion"]).size()
            assert counts.max() - counts.min() <= 2
            assert labels["speaker"].iloc[fold.test].value_counts().tolist() == [6, 6]


def test_the_same_seed_gives_the_same_folds_and_another_gives_others():
    """Experiments that share a fold section are compared on the same folds."""
    labels = pd.DataFrame({"speaker": list("abcde") * 12})
    contents = list(map(str, range(60)))
    one, again, other = (cross_validation(labels, contents, Folds(seed=s, stratify="speaker")) for s in (0, 0, 1))
    assert all(np.array_equal(x.test, y.test) for x, y in zip(one, again, strict=True))
    assert not all(np.array_equal(x.test, y.test) for x, y in zip(one, other, strict=True))


def test_a_corpus_can_bring_its_own_split():
    """Validation data is taken from the training part where the corpus names none."""
    labels = pd.DataFrame({"split": ["train"] * 20 + ["test"] * 5})
    (fold,) = cross_validation(labels, list(map(str, range(25))), Folds(given="split"))
    assert fold.test.tolist() == [20, 21, 22, 23, 24]
    assert len(fold.valid) == 2
    contents = [*map(str, range(24)), "0"]
    with pytest.raises(TrainingError, match="1 recording of one split is in another"):
        cross_validation(labels, contents, Folds(given="split"))
    speakers = labels.assign(speaker=[*"ab" * 12, "a"])
    with pytest.raises(TrainingError, match="values of 'speaker', of one split are in another"):
        cross_validation(speakers, list(map(str, range(25))), Folds(given="split", disjoint="speaker"))


def test_ten_speakers_make_five_disjoint_folds():
    """As emo-DB and IEMOCAP have them: at least one speaker validates, whatever the share asked for."""
    labels = pd.DataFrame({"speaker": list("abcdefghij") * 6})
    for fold in cross_validation(labels, list(map(str, range(60))), Folds(k=5, disjoint="speaker", validation=0.1)):
        assert labels["speaker"].iloc[fold.test].nunique() == 2
        assert labels["speaker"].iloc[fold.valid].nunique() == 1


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (Folds(stratify="mood"), "no label 'mood'; it has speaker"),
        (Folds(disjoint="speeker"), "no label 'speeker', did you mean 'speaker'"),
        (Folds(disjoint="speaker"), "2 values of 'speaker' cannot be divided into 5 parts"),
        (Folds(given="speaker"), "must be train, valid or test, found 'a'"),
    ],
)
def test_impossible_folds_are_refused(folds, message):
    """With what was found."""
    with pytest.raises(TrainingError, match=message):
        cross_validation(pd.DataFrame({"speaker": list("ab") * 10}), list(map(str, range(20))), folds)


def test_utterances_without_a_given_split_keep_their_side():
    """A hash of the audio decides: about one in k is tested, whatever other utterances take part; given ones stay."""
    contents = [f"c{i}" for i in range(601)]
    given = [("train", "test", None)[i % 3] for i in range(601)]
    labels = pd.DataFrame({"split": given, "speaker": [f"s{i % 53}" for i in range(601)]})
    (all_,) = cross_validation(labels, contents, Folds(given="split", k=4))
    some = np.arange(0, 601, 2)
    (half,) = cross_validation(
        labels.iloc[some].reset_index(drop=True), [contents[i] for i in some], Folds(given="split", k=4)
    )
    free = np.array([split is None for split in given])
    assert set(some[half.test]) == set(all_.test) & set(some)
    assert set(some[half.valid][free[some[half.valid]]]) == set(all_.valid[free[all_.valid]]) & set(some)
    assert free[all_.test].sum() / free.sum() == pytest.approx(1 / 4, abs=0.08)
    assert {given[i] for i in all_.test} == {"test", None}
    assert {given[i] for i in all_.valid} == {"train", None}


def test_speakers_without_a_given_split_stay_together():
    """With `disjoint`, the hash is of the label."""
    labels = pd.DataFrame({"split": [None] * 601, "speaker": [f"s{i % 53}" for i in range(601)]})
    (fold,) = cross_validation(labels, [f"c{i}" for i in range(601)], Folds(given="split", disjoint="speaker"))
    sides = [set(labels["speaker"].iloc[side]) for side in (fold.train, fold.valid, fold.test)]
    assert sum(map(len, sides)) == 53
    assert all(sides)


def test_what_the_features_were_trained_on_is_never_tested():
    """It may be trained on; a fold that would test nothing else is an error."""
    labels = pd.DataFrame({"speaker": list("abcde") * 20})
    contents = [f"c{i}" for i in range(100)]
    plain = cross_validation(labels, contents, Folds(k=3))
    seen = frozenset(contents[:60])
    for fold, before in zip(cross_validation(labels, contents, Folds(k=3), seen), plain, strict=True):
        assert set(fold.test) == set(before.test) - set(range(60))
        np.testing.assert_array_equal(fold.train, before.train)
    with pytest.raises(TrainingError, match="only utterances that the embedding was trained on"):
        cross_validation(labels, contents, Folds(k=3), frozenset(contents))


def test_a_corpus_without_a_validation_part_is_held_out_from():
    """Whatever the others have: else its tasks would have nothing to stop by."""
    split = [("train", "test")[i % 2] if i < 60 else ("train", "valid", "test")[i % 3] for i in range(120)]
    corpora = ["one"] * 60 + ["two"] * 60
    labels = pd.DataFrame({"split": split})
    (fold,) = cross_validation(labels, list(map(str, range(120))), Folds(given="split"), corpora=corpora)
    assert {corpora[i] for i in fold.valid} == {"one", "two"}
    assert all(split[i] == "train" for i in fold.valid if i < 60)
    assert [i for i in fold.valid if i >= 60] == [i for i in range(60, 120) if split[i] == "valid"]


def test_a_recording_that_only_one_corpus_divides_stays_where_it_is_put():
    """A copy without a split follows it, instead of its hash."""
    contents = [f"c{i % 40}" for i in range(80)]
    given = [("train", "valid", "test")[i % 3] for i in range(40)]
    (fold,) = cross_validation(pd.DataFrame({"split": [*given, *[None] * 40]}), contents, Folds(given="split"))
    for name, side in (("train", fold.train), ("valid", fold.valid), ("test", fold.test)):
        assert {given[i % 40] for i in side} == {name}
