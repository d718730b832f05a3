"""Speaker verification: planted speakers are told apart as well as they can be, and no pair is scored that may not."""

import dataclasses
import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from strata.trainers.evaluation import plda, verification
from strata.trainers.evaluation.detection import equal_error_rate
from strata.trainers.evaluation.verification import verify
from strata.trainers.inputs.data import Dataset, Segments, TrainingError
from strata.trainers.spec import Folds, Verification

DIM, NOISE, SPEAKERS, EACH = 31, 11, 197, 7


def _how(**options) -> Verification:
    return Verification(views=["embedding"], verify="speaker", **options)


def _dataset(x: np.ndarray, speakers, contents=None, **labels) -> Dataset:
    names = [f"c/{i}" for i in range(len(x))]
    table = pd.DataFrame({"speaker": speakers, **labels})
    return Dataset(names, contents or names, table, {"embedding": x[:, None].astype(np.float32)})


@pytest.fixture(scope="module")
def planted():
    """Speakers in a few dimensions, and beside them louder ones that tell nothing; the truth of the first."""
    rng = np.random.default_rng(0)
    truth = plda.TwoCovariance(np.zeros(DIM), np.eye(DIM), np.diag(np.linspace(0.3, 2.0, DIM)), ())
    numbers = np.repeat(np.arange(SPEAKERS), EACH)
    voices = rng.normal(size=(SPEAKERS, DIM))[numbers]
    x = voices + rng.normal(size=(len(numbers), DIM)) * np.sqrt(np.diag(truth.within))
    x = np.concatenate([x, 9 * rng.normal(size=(len(x), NOISE))], axis=1)
    return _dataset(x, [f"s{i}" for i in numbers]), truth


def test_planted_speakers_are_told_apart_as_well_as_they_can_be(planted):
    """Nearly as well as by the model that they were drawn from, unheard speakers too, and far better than by angles."""
    data, truth = planted
    found = verify(_how(folds=Folds(k=3, disjoint="speaker")), data, "embedding")
    x = data.features["embedding"][:, 0].astype(np.float64)
    rows = {name: row for row, name in enumerate(data.utterances)}
    first, second = (found.trials[side].map(rows).to_numpy() for side in ("first", "second"))
    target = found.trials["target"].to_numpy()
    best = equal_error_rate(target, truth.scores(x[:, :DIM], first, second))
    directions = x / np.linalg.norm(x, axis=1, keepdims=True)
    angles = equal_error_rate(target, (directions[first] * directions[second]).sum(axis=1))
    mean = found.metrics["tasks"]["speaker"]["eer"]["mean"]
    assert best - 0.005 < mean < best + 0.03
    assert mean < 0.2 * angles
    assert (target == (data.labels["speaker"].iloc[first].array == data.labels["speaker"].iloc[second].array)).all()


def test_speakers_that_leave_no_trace_are_guessed(planted):
    """Embeddings of noise alone."""
    data, _ = planted
    noise = np.random.default_rng(1).normal(size=(len(data), 31))
    found = verify(_how(), _dataset(noise, data.labels["speaker"]), "embedding")
    assert found.metrics["tasks"]["speaker"]["eer"]["mean"] == pytest.approx(0.5, abs=0.04)
    assert found.metrics["tasks"]["speaker"]["min_dcf"]["mean"] > 0.9


def test_more_dimensions_than_utterances_are_no_trap():
    """Directions along which a speaker's training utterances coincide by chance are not taken for his voice."""
    rng = np.random.default_rng(0)
    numbers = np.repeat(np.arange(97), 7)
    voices = rng.normal(size=(97, 11))[numbers] + 0.8 * rng.normal(size=(len(numbers), 11))
    narrow = np.concatenate([voices, 3 * rng.normal(size=(len(numbers), 53))], axis=1)
    x = narrow @ rng.normal(size=(64, 997)) + 0.05 * rng.normal(size=(len(numbers), 997))
    how = _how(folds=Folds(k=3, disjoint="speaker"))
    found = verify(how, _dataset(x, [f"s{i}" for i in numbers]), "embedding")
    assert found.metrics["tasks"]["speaker"]["eer"]["mean"] < 0.2  # without shrinkage it is 0.24


def test_the_result_can_be_written_beside_those_of_experiments(planted):
    """As JSON, with what comparisons of folds need; the same input gives the same bits."""
    data, _ = planted
    steps = []
    found = verify(_how(), data, "embedding", progress=lambda: steps.append(1))
    again = verify(_how(), data, "embedding")
    assert json.dumps(found.metrics) == json.dumps(again.metrics)
    pd.testing.assert_frame_equal(found.trials, again.trials, check_exact=True)
    metrics = found.metrics
    assert len(steps) == metrics["num_folds"] == 5
    assert metrics["kinds"] == {"speaker": "verification"}
    assert metrics["primary"] == {"speaker": "eer"}
    assert len(metrics["tasks"]["speaker"]["eer"]["folds"]) == len(metrics["folds"]["sizes"]) == 5
    tested = [size["test"] for size in metrics["folds"]["sizes"]]
    assert metrics["num_trials"] == len(found.trials) == sum(n * (n - 1) // 2 for n in tested)
    assert metrics["num_targets"] == found.trials["target"].sum()
    assert metrics["num_utterances"] == len(data)
    assert metrics["num_left_out"] == 0
    assert found.notes == ()
    assert list(found.trials.columns) == ["fold", "first", "second", "target", "score"]


def test_nothing_is_learned_from_what_is_tested(planted):
    """Another tested utterance changes only the scores of its own pairs."""
    data, _ = planted
    split = np.where(np.arange(len(data)) % EACH < EACH - 2, "train", "test")
    x = data.features["embedding"][:, 0].copy()
    before, after = [], []
    for scores in (before, after):
        changed = _dataset(x, data.labels["speaker"], split=split)
        trials = verify(_how(folds=Folds(given="split")), changed, "embedding").trials
        scores.append(trials.set_index(["first", "second"])["score"])
        x[EACH - 1] += 100
    own = (before[0].index.to_frame() == f"c/{EACH - 1}").any(axis=1).to_numpy()
    assert own.sum() == 2 * SPEAKERS - 1
    np.testing.assert_array_equal(before[0][~own], after[0][~own])
    assert (before[0][own] != after[0][own]).all()


def _three_speakers(size: int = 60) -> Dataset:
    """The last ten are tested; the last two of them have no label, and the two before share their audio."""
    rng = np.random.default_rng(0)
    numbers = np.arange(size) % 3
    x = rng.normal(size=(3, 5))[numbers] + 0.1 * rng.normal(size=(size, 5))
    speakers = [None if i >= size - 2 else "abc"[n] for i, n in enumerate(numbers)]
    contents = [str(i) for i in range(size)]
    contents[size - 4] = contents[size - 3]
    split = ["train"] * (size - 10) + ["test"] * 10
    return _dataset(x, speakers, contents, split=split)


def test_all_labelled_pairs_of_two_recordings_are_trials():
    """Each once, and none of an audio with itself or of a label that is not known."""
    data = _three_speakers()
    found = verify(_how(folds=Folds(given="split")), data, "embedding")
    expected = {(f"c/{i}", f"c/{j}") for i, j in combinations(range(50, 58), 2)} - {("c/56", "c/57")}
    assert sorted(zip(found.trials["first"], found.trials["second"], strict=True)) == sorted(expected)
    assert found.metrics["num_left_out"] == 1
    assert found.notes == (
        "speaker: 27 of 28 pairs are scored: none of a recording with itself, none of folds without both kinds, and of "
        "more than 2,000,000 in a fold a sample",
    )


def test_a_list_says_which_trials():
    """Whoever is who: of a trial only the list's word counts, wherever folds would have put it; one of one audio is
    left out, and what the trials name fits no model."""
    trials = [(50, 53, True), (59, 50, False), (58, 51, True), (0, 50, False), (0, 3, True), (56, 57, False)]
    found = verify(_how(folds=Folds(given="split")), _three_speakers(), "embedding", trials)
    assert found.trials[["first", "second", "target"]].values.tolist() == [
        ["c/50", "c/53", True],
        ["c/59", "c/50", False],
        ["c/58", "c/51", True],
        ["c/0", "c/50", False],
        ["c/0", "c/3", True],
    ]
    assert (found.metrics["num_trials"], found.metrics["num_targets"], found.metrics["num_left_out"]) == (5, 3, 1)
    assert found.notes[0].startswith("speaker: 1 of 6 trials are left out")
    assert found.metrics["folds"]["sizes"] == [{"train": 48, "valid": 0, "test": 7}]
    other = verify(_how(folds=Folds(given="split")), _three_speakers(), "embedding", trials[:2])
    assert other.metrics["truth"] != found.metrics["truth"]


def test_of_very_many_pairs_a_sample_is_scored(planted, monkeypatch):
    """Without repetition, by half of one speaker as far as there are so many; its error is near that of all."""
    data, _ = planted
    monkeypatch.setattr(verification, "MOST_ROWS", 505)
    how = _how(folds=Folds(k=5, stratify="speaker"))
    all_pairs, sample = (verify(how, data, "embedding", most_pairs=most) for most in (10**6, 3001))
    assert sample.metrics["num_trials"] == 5 * 3001
    assert sample.metrics["num_left_out"] == all_pairs.metrics["num_trials"] - 5 * 3001
    assert sample.metrics["num_targets"] == all_pairs.metrics["num_targets"]
    eers = [found.metrics["tasks"]["speaker"]["eer"]["mean"] for found in (all_pairs, sample)]
    assert eers[0] == pytest.approx(eers[1], abs=0.02)
    assert len(sample.trials) == len(all_pairs.trials) == 505
    assert not sample.trials.duplicated(["first", "second"]).any()
    assert sample.notes[-1] == "speaker: the table of trials keeps a sample of 505 of 15005"
    tiny = verify(how, data, "embedding", most_pairs=20)
    assert (tiny.metrics["num_trials"], tiny.metrics["num_targets"]) == (100, 50)


def test_a_fold_without_both_kinds_of_pairs_has_no_score():
    """It is None and does not count; the others do."""
    rng = np.random.default_rng(0)
    found = verify(_how(folds=Folds(k=7)), _dataset(rng.normal(size=(21, 3)), list("ab" * 10 + "a")), "embedding")
    eer = found.metrics["tasks"]["speaker"]["eer"]
    known = [value for value in eer["folds"] if value is not None]
    assert 0 < len(known) < 7
    assert eer["mean"] == pytest.approx(np.mean(known))
    assert found.notes[-1] == (
        f"speaker: {7 - len(known)} of 7 folds have no pairs of both kinds, and no score; lower folds.k"
    )


@pytest.mark.parametrize(
    ("speakers", "folds", "message"),
    [
        (["a"] * 12, Folds(k=3), "needs two classes or more, found 1: a"),
        (list("abcdefghijkl"), Folds(k=3), "speaker: no fold has both pairs of one speaker and pairs of two to test"),
        (list("abcd") * 3, Folds(k=4, disjoint="speaker"), "no fold has both"),
    ],
)
def test_speakers_that_make_no_trials_are_refused(speakers, folds, message):
    """One alone, one utterance of each, or one in every test part."""
    with pytest.raises(TrainingError, match=message):
        verify(_how(folds=folds), _dataset(np.random.default_rng(0).normal(size=(12, 3)), speakers), "embedding")


def test_two_speakers_leave_one_direction():
    """Along which vectors keep their length."""
    rng = np.random.default_rng(0)
    numbers = np.arange(83) % 2
    x = numbers[:, None] + 0.3 * rng.normal(size=(83, 3))
    found = verify(_how(), _dataset(x, [f"s{i}" for i in numbers]), "embedding")
    assert found.metrics["tasks"]["speaker"]["eer"]["mean"] < 0.05
    assert found.trials["score"].nunique() > 100


def test_an_embedding_without_any_variance_is_guessed():
    """A defined score, and no NaN."""
    found = verify(_how(), _dataset(np.ones((41, 3)), [f"s{i % 4}" for i in range(41)]), "embedding")
    assert found.metrics["tasks"]["speaker"]["eer"]["mean"] == 0.5


def test_trials_of_what_the_embedding_has_seen_are_left_out():
    """And are an error where there are no others."""
    data = dataclasses.replace(_three_speakers(), seen=frozenset({"50", "51"}))
    trials = [(50, 53, True), (59, 52, False), (58, 51, True), (0, 3, True)]
    found = verify(_how(folds=Folds(given="split")), data, "embedding", trials)
    assert found.trials[["first", "second"]].values.tolist() == [["c/59", "c/52"], ["c/0", "c/3"]]
    with pytest.raises(TrainingError, match="is of what the embedding was trained on; name other utterances"):
        verify(_how(folds=Folds(given="split")), data, "embedding", [(50, 53, True), (51, 52, False)])


def test_a_fit_that_did_not_converge_is_told(monkeypatch):
    """In a note beside the scores."""
    monkeypatch.setattr("strata.trainers.evaluation.plda.ITERATIONS", 2)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 1, 7)).astype(np.float32)
    names = [str(i) for i in range(40)]
    data = Dataset(names, names, pd.DataFrame({"speaker": [f"s{i // 4}" for i in range(40)]}), {"v": x})
    how = Verification(views=["v"], verify="speaker", folds=Folds(k=2))
    assert any("2 of 2 folds had not converged" in note for note in verify(how, data, "v").notes)


@pytest.mark.parametrize("how", [Folds(k=3), Folds(given="split")])
def test_no_pair_of_what_the_embedding_has_seen_is_scored(how):
    """Where all pairs of tested utterances are: seen ones are in none of them, and the others are in all of theirs."""
    plain = _three_speakers()
    seen = frozenset(plain.contents[::3])
    data = dataclasses.replace(plain, seen=seen)
    before, after = (verify(_how(folds=how), each, "embedding").trials for each in (plain, data))
    gone = {name for name, content in zip(plain.utterances, plain.contents, strict=True) if content in seen}
    assert gone & {*before["first"], *before["second"]}
    kept = before[~before["first"].isin(gone) & ~before["second"].isin(gone)].reset_index(drop=True)
    pd.testing.assert_frame_equal(after, kept)


@pytest.mark.parametrize("trial", [(50, 53, True), (53, 50, True)])
def test_a_trial_with_either_side_seen_is_left_out(trial):
    """Whichever of the two it is."""
    data = dataclasses.replace(_three_speakers(), seen=frozenset({"50"}))
    found = verify(_how(folds=Folds(given="split")), data, "embedding", [trial, (59, 52, False), (0, 3, True)])
    assert found.trials[["first", "second"]].values.tolist() == [["c/59", "c/52"], ["c/0", "c/3"]]


def test_segments_that_overlap_form_no_trial():
    """They are nearly the same audio; those of one recording that do not overlap are compared."""
    data = _three_speakers()
    start = np.where(np.arange(len(data)) % 2, 0.5, 0.0) + 10.0 * np.arange(len(data))
    start[53] = start[50] + 0.25
    data = dataclasses.replace(data, segments=Segments(["r"] * len(data), start, start + 1))
    trials = [(50, 53, True), (50, 56, True), (59, 52, False)]
    found = verify(_how(folds=Folds(given="split")), data, "embedding", trials)
    assert found.trials[["first", "second"]].values.tolist() == [["c/50", "c/56"], ["c/59", "c/52"]]


@pytest.mark.parametrize("most", [10**6, 301])
def test_the_order_of_the_rows_changes_no_score(most):
    """Which pairs are scored, in which order, and how."""
    data = _three_speakers()
    order = np.random.default_rng(0).permutation(len(data))
    other = dataclasses.replace(
        data,
        utterances=[data.utterances[row] for row in order],
        contents=[data.contents[row] for row in order],
        labels=data.labels.iloc[order].reset_index(drop=True),
        features={"embedding": data.features["embedding"][order]},
    )
    found = [verify(_how(folds=Folds(k=3)), each, "embedding", most_pairs=most) for each in (data, other)]
    assert found[0].metrics == found[1].metrics
    pd.testing.assert_frame_equal(found[0].trials, found[1].trials)
