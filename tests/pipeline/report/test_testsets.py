"""Scores compete only where they were taken on the same utterances."""

from dataclasses import replace

import pytest

from strata.pipeline.report import footnotes, poolings, score_cells, scores, size_cells
from strata.pipeline.results import ranking, testsets
from tests.pipeline.results.made import made

TARGET = ("speaker", "accuracy")


@pytest.mark.parametrize(
    ("other", "best"),
    [
        (made("b", 0.9), [False, True]),
        (made("b", 0.9, folds="0the2"), [False, False]),
        (made("b", 0.9, count=57), [False, False]),
        (made("b", 0.9, truth={"speaker": "other"}), [False, False]),
        (made("b", 0.9, metric="uar"), [False, False]),
        (made("b", 0.9, folds=""), [False, False]),
    ],
)
def test_only_the_same_folds_utterances_and_labels_compete(other, best):
    """Another division, another number of utterances, other labels, another measure, or results that do not tell."""
    assert testsets.winners([made("a", 0.8), other], TARGET) == best
    assert [row[4].best for row in scores.comparison([made("a", 0.8), other]).rows] == best


def test_every_test_set_of_a_column_has_its_own_best_and_a_letter():
    """569 utterances against 283: the best of each is marked, the rows say which they were tested on and how many."""
    found = [made("a", 0.7, count=569), made("b", 0.8, count=569)]
    found += [made("c", 0.95, "0the2", 283), made("d", 0.9, "0the2", 283), made("e", 0.99, "a10ne", 31)]
    table = scores.comparison(found)
    assert [row[3].text for row in table.rows] == ["569 A", "569 A", "283 B", "283 B", "31 C"]
    assert [row[4].best for row in table.rows] == [False, True, True, False, False]
    assert size_cells.APART in table.notes
    assert [row[3].text for row in scores.comparison(found[:2]).rows] == ["569", "569"]
    assert size_cells.APART not in scores.comparison(found[:2]).notes


def test_the_best_of_a_setup_is_chosen_among_what_most_were_tested_on():
    """A lucky score on few other utterances does not stand for its setup, let alone win."""
    found = [made("a", 0.7), made("b", 0.8), made("lucky", 0.99, "0the2", 31), made("c", 0.75, setup="SVMT")]
    table = scores.best_of_setups(found)
    assert [row[2].text for row in table.rows] == ["80.00 ± 1.00", "75.00 ± 1.00"]
    assert [row[2].best for row in table.rows] == [True, False]
    assert [row[1].text for row in table.rows] == ["101", "101"]


def test_a_row_tells_how_many_each_task_was_tested_on():
    """Where tasks label different numbers, from the fewest to the most; all metrics tell it task by task."""
    found = made("a", 0.8, tasks={"speaker": {}, "age": {}}, num_tested={"speaker": 283, "age": 569})
    assert [cell.text for cell in size_cells.sizes([[found]])] == ["283–569"]
    assert size_cells.sizes([[found]], "age")[0].text == "569"
    assert scores.metrics(made("a", 0.8, num_tested={"speaker": 57})).rows[0][1].text == "57"


def test_more_than_26_test_sets_have_letters_too():
    """A to Z, then AA."""
    cells = size_cells.sizes([[made(str(place), 0.5, str(place))] for place in range(28)])
    assert [cells[place].text for place in (0, 25, 26, 27)] == ["101 A", "101 Z", "101 AA", "101 AB"]


@pytest.mark.parametrize(
    ("folds", "value", "text"),
    [(3, {"folds": [0.8, 0.82, 0.84]}, "82.00 ± 2.00"), (1, {"folds": [0.82]}, "82.00"),
     (3, {"folds": [None, 0.82, None]}, "82.00")],
)  # fmt: skip
def test_one_value_has_no_standard_deviation(folds, value, text):
    """Whatever the file says, as those of earlier versions said 0; captions do not promise one."""
    found = made("a", 0.82, num_folds=folds, tasks={"speaker": {"accuracy": {"mean": 0.82, "sd": 0.02, **value}}})
    assert score_cells.mean_and_sd(found.tasks["speaker"]["accuracy"], ranking.metric("accuracy")) == text
    assert ("±" in scores.comparison([found]).caption) == (folds > 1)


def test_another_state_of_the_manifest_is_told_only_where_it_matters():
    """On the very same folds and labels, what else the manifest holds changes no score."""
    same, later = made("a", 0.8), {"provenance": {"manifest": "4567cdef"}}
    assert footnotes.MANIFEST not in footnotes.below([same, made("b", 0.9, **later)], [])
    assert footnotes.MANIFEST in footnotes.below([same, made("b", 0.9, "0the2", **later)], [])
    assert footnotes.MANIFEST in footnotes.below([same, made("b", 0.9, truth={"speaker": "x"}, **later)], [])


@pytest.mark.parametrize(("metric", "told"), [("f1", "macro F1"), ("uar", "UAR"), ("accuracy", "")])
def test_over_which_classes_a_mean_is_taken_is_said(metric, told):
    """Macro F1 and UAR are over the classes that a fold's test part has."""
    table = scores.comparison([made("a", 0.8, metric=metric)])
    assert any(note.startswith(f"{told}: mean over the classes present") for note in table.notes) == bool(told)
    assert table.columns[4].small.startswith(told)
    assert bool(scores.metrics(made("a", 0.8, metric=metric)).notes) == bool(told)


def test_plain_models_stand_beside_the_unified_one_only_where_they_are_like_it():
    """One on texts is no rival of one on audio, nor its winner: it is named below, as is one of other tasks."""
    unified = made("wavcse", 0.8, config={"encoder": "unified", "pooling": "max"})
    others = [
        made("probe", 0.7, config={"encoder": "linear"}),
        made("words", 0.99, views=("bert",)),
        made("pair", 0.9, views=("mfcc", "wavlm")),
        made("more", 0.9, tasks={"speaker": {}, "age": {}}, primary={"speaker": "accuracy", "age": "rmse"}),
    ]
    (table,) = poolings.tables([unified, *others], {"bert"})
    assert [row[0].small for row in table.rows] == ["probe", "wavcse"]
    assert [row[4].best for row in table.rows] == [False, True]
    assert "Left out: words (on texts); pair (of several views); more (trained for other tasks too)." in table.notes
    texts = replace(unified, views=("bert",))
    (table,) = poolings.tables([texts, *others], {"bert"})
    assert [row[0].small for row in table.rows] == ["words", "wavcse"]
