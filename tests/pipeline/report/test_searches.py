import json

import pytest

from strata.pipeline import report
from strata.pipeline.report import exhibits, search_figures, search_tables
from strata.pipeline.report.collect import collect
from tests.pipeline.report import wavcse_results


def found(study, name: str = "widths"):
    """One of its searches, read anew."""
    return next(search for search in collect(study.folder, study.params).searches if search.name == name)


def drawn(search, gaps: list | None = None):
    """Its figures as the page shows them."""
    return exhibits.search(search, [] if gaps is None else gaps).figures


def rewritten(study, **fields):
    """A small search with other content: three trials on a surface of two fields."""
    trials = [trial(0, 0.4, width=1, rate=3), trial(1, 0.6, width=2, rate=3), trial(2, 0.5, width=1, rate=5)]
    told = {"search": "grid", "space": {"width": [1, 2], "rate": [3, 5]}, "trials": trials, "best": {"number": 1}}
    study.write("tune/widths/tune.json", wavcse_results.search() | told | fields)
    return found(study)


def trial(number: int, value: float | None, state: str = "complete", **params) -> dict:
    """As the stage writes one."""
    return {"number": number, "state": state, "params": params, "value": value, "tasks": {}, "epochs": 7, "seconds": 1}


def test_the_ten_best_are_shown_and_all_behind_a_fold(wavcse):
    """Best first, the first in bold, the section as it was below; every trial with its outcome."""
    search = found(wavcse)
    table = search_tables.best_trials(search)
    values = [float(row[4].text) for row in table.rows]
    assert len(values) == 10
    assert values == sorted(values, reverse=True)
    assert [row[0].best for row in table.rows] == [True] + [False] * 9
    assert (table.foot[0][0].text, table.foot[0][4].text) == ("as it was", "0.7700")
    everything = search_tables.all_trials(search)
    assert [row[0].text for row in everything.rows] == [str(number) for number in range(1, 24)]
    assert everything.rows[5][-1].text == "failed: the loss was not finite"
    assert everything.rows[6][-1].text == "pruned: worse than most at epoch 7"
    assert all(len(row) == len(table.columns) for row in (*table.rows, *table.foot, *everything.rows))


def test_the_scores_head_is_short_and_its_words_are_in_the_caption(wavcse):
    """A sentence at the head of a column of numbers would run over its neighbour; the arrow says what is better."""
    table = search_tables.best_trials(found(wavcse))
    assert table.caption == "The best trials by mean validation score over the tasks"
    assert table.columns[4].title == "score ↑"
    assert search_tables.best_trials(rewritten(wavcse, objective="loss, lower is better")).columns[3].title == "score ↓"


def test_a_small_search_is_not_shown_twice(wavcse):
    """Where the best are all, there is nothing to unfold."""
    assert search_tables.all_trials(rewritten(wavcse)) is None


def test_which_values_are_better_is_the_objectives_to_say(wavcse):
    """Higher ones, unless it says otherwise; of equal ones the one that the search named is first."""
    assert [trial.number for trial in rewritten(wavcse).ranked] == [1, 2, 0]
    told = "Every trial by its mean validation score over the tasks, higher is better; validation data only."
    assert search_figures.history(found(wavcse)).caption == told
    search = rewritten(wavcse, objective="loss, lower is better", best={"number": 0})
    assert [trial.number for trial in search.ranked] == [0, 2, 1]
    assert search.objective == "loss"
    assert search_figures.history(search).caption == "Every trial by its loss, lower is better; validation data only."
    assert rewritten(wavcse, objective="score of keyword, speaker; higher is better").objective == (
        "score of keyword, speaker"
    )
    equal = [trial(0, 0.5, width=1, rate=3), trial(1, 0.5, width=2, rate=3)]
    assert [trial.number for trial in rewritten(wavcse, trials=equal).ranked] == [1, 0]


def test_trials_without_a_value_stand_on_the_edge_and_a_repeated_one_says_so(wavcse):
    """Pruned and failed ones are told apart in the key of the figure; a reason is told whatever the state."""
    svg = search_figures.history(found(wavcse)).svg
    assert [f">{word}<" in svg for word in ("complete", "pruned", "failed", "as it was", "best so far")] == [True] * 5
    again = trial(2, 0.5, width=1, rate=5) | {"reason": "the same as trial 0"}
    rows = search_tables.best_trials(rewritten(wavcse, trials=[trial(1, 0.6, width=2, rate=3), again])).rows
    assert [row[-1].text for row in rows] == ["complete", "complete: the same as trial 0"]


def test_test_scores_stand_beside_and_validation_is_named(wavcse):
    """The figures and tables are of validation data; the best is told with what it came to on test data."""
    search = found(wavcse)
    told = "keyword 0.9100, speaker 0.8800, emotion 0.7100, mean 0.8333"
    assert search_tables.tested(search) == told
    assert search_tables.subtitle(search).endswith(f"on test: {told}")
    assert all("validation data" in figure.caption for figure in drawn(search))
    assert search_tables.best_trials(search).notes[0] == "Trials are trained and compared on validation data only."


def test_scores_by_metric_are_read_too(wavcse):
    """Whether a task has one number, or one per metric."""
    test = {"tasks": {"age": {"rmse": 3.5}, "speaker": {"accuracy": {"mean": 0.75}}}}
    assert search_tables.tested(rewritten(wavcse, test=test)) == "age rmse 3.5000, speaker accuracy 0.7500"
    assert search_tables.tested(rewritten(wavcse, test={"tasks": {"age": 0.5}, "mean": 0.5})) == "age 0.5000"


def test_every_field_has_its_panel_and_two_lists_have_one_map(wavcse):
    """A logarithmic interval has a logarithmic axis; the map prints the best value of every place."""
    panels = drawn(found(wavcse))
    assert len(panels) == 4
    assert "which explains 50 % of the differences" in panels[1].caption
    assert ">0.001<" in panels[1].svg
    assert "mathdefault" not in "".join(figure.svg for figure in panels)
    history, surface = drawn(rewritten(wavcse))
    assert [f">{value}<" in surface.svg for value in ("0.600", "0.400", "0.500", "nan")] == [True, True, True, False]
    assert "0.4000 to 0.6000" in surface.caption
    assert "Values of the 3 trials" in history.svg


@pytest.mark.parametrize(
    "trials",
    [
        [trial(0, None, "failed", width=1, rate=3)],
        [trial(0, None, "pruned", width=1, rate=3), trial(1, None, "failed", width=2, rate=3)],
        [],
    ],
)
@pytest.mark.usefixtures("sketched")
def test_a_search_without_a_completed_trial_says_so(wavcse, trials):
    """There is no best, and nothing breaks."""
    search = rewritten(wavcse, trials=trials, best=None, start=None, test=None)
    assert search_tables.outcome(search) == f"none of its trials was completed ({len(trials)} begun)"
    page = report.build(wavcse.folder, wavcse.params).read_text()
    assert "search widths (" not in page
    assert not [gap for gap in collect(wavcse.folder, wavcse.params).gaps if "search" in gap.what]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"best": {"number": 77}}, "its best trial 77 is not among its complete trials"),
        ({"trials": [{"number": 0, "state": "lost", "params": {}}]}, "found 'lost'"),
        ({"space": 3}, "TypeError"),
    ],
)
def test_a_search_that_cannot_be_is_a_gap(wavcse, content, told):
    """It names the command that runs it again; the other search is shown."""
    wavcse.write("tune/widths/tune.json", wavcse_results.search() | content)
    study = collect(wavcse.folder, wavcse.params)
    assert [search.name for search in study.searches] == ["rates"]
    assert told in str(study.gaps[-1])
    assert str(study.gaps[-1]).endswith("run `strata tune widths`")


def test_values_that_cannot_be_drawn_cost_nothing_else(wavcse):
    """A value beyond the space is left out of the map, one that is no number out of its panel; where nothing is left,
    the map is a gap."""
    surface = rewritten(wavcse, trials=[trial(0, 0.5, width=9, rate=3), trial(1, 0.4, width=2, rate=3)])
    assert ">0.500<" not in search_figures.surface(surface).svg
    gaps = []
    assert len(drawn(rewritten(wavcse, trials=[trial(1, 0.4, width=9, rate=3)]), gaps)) == 1
    assert [gap.what.split(" (")[0] for gap in gaps] == ["the surface of search widths"]
    search = wavcse_results.search()
    for each in search["trials"]:
        each["params"]["embedding"] = "wide"
    wavcse.write("tune/widths/tune.json", search)
    assert len(drawn(found(wavcse), gaps)) == 4
    assert len(gaps) == 1


def test_nested_values_are_written_as_a_reader_would():
    """Numbers to four digits, lists and mappings without brackets."""
    assert search_tables.value(0.00087654) == "0.0008765"
    assert search_tables.value(2048) == "2048"
    assert search_tables.value([200, 64]) == "200 64"
    assert search_tables.value({"kind": "ot", "epsilon": 0.1}) == "kind ot, epsilon 0.1"
    assert search_tables.value(json.loads("null")) == "None"
