"""What is odd, or lacking, in a study costs its own part of the page and no other."""

import json

import pandas as pd
import pytest

from strata.pipeline import report
from tests.pipeline.report.outline import drawings, drawn, section


def test_one_experiment_without_predictions_and_curves_has_a_page(empty):
    """What an experiment left out is left out."""
    empty.add_experiment("tango", "TANGO", ["wavlm"], {"age": 5.7})
    for name in ("predictions", "curves"):
        (empty.folder / "results" / "tango" / f"{name}.parquet").unlink()
    page = report.build(empty.folder, empty.params).read_text()
    assert "5.70 ± 0.08" in section(page, "comparison")
    assert "<strong>" not in section(page, "comparison")
    assert "<svg " not in page


def relabel(study, column: str, values: list) -> None:
    """Exchanges the first labels of a manifest's column."""
    path = study.folder / "data" / "manifest.parquet"
    manifest = pd.read_parquet(path)
    rest = manifest[column].iloc[len(values) :]
    if any(isinstance(value, str) for value in values):
        rest = rest.astype(str)
    manifest.assign(**{column: [*values, *rest]}).to_parquet(path)


@pytest.mark.usefixtures("sketched")
def test_a_quantity_with_a_word_among_its_numbers_is_drawn_without_it(full):
    """A corpus that writes `unknown` for an age costs that utterance, not the page; infinity is no age either."""
    relabel(full, "age", ["unknown", "45", "inf", "unknown"])
    page = report.build(full.folder, full.params).read_text()
    assert "Distribution of age" in page
    assert "Not drawn: 3 labels that are no number, such as unknown." in page


@pytest.mark.usefixtures("sketched")
def test_a_quantity_without_any_number_is_told(full):
    """Nothing is left to draw, so the page says why."""
    relabel(full, "age", ["unknown"] * 101)
    page = report.build(full.folder, full.params).read_text()
    assert "the distribution of age (no label is a number, but for instance unknown)" in page
    assert "Utterances per class of emotion" in page


@pytest.mark.usefixtures("sketched")
def test_predictions_of_words_where_numbers_were_due_cost_their_points(full):
    """The scatter shows the rest; the other figures and all tables stand."""
    path = full.folder / "results" / "tango" / "predictions.parquet"
    frame = pd.read_parquet(path).astype({"age.true": str})
    frame.loc[:2, "age.true"] = ["unknown", "inf", "45"]
    frame.to_parquet(path)
    page = report.build(full.folder, full.params).read_text()
    points = drawings(page)["experiments"]["tango"]["tasks"][2]
    assert (points["name"], points["count"]) == ("age", 99)
    frame.assign(**{"age.true": "unknown"}).to_parquet(path)
    page = report.build(full.folder, full.params).read_text()
    assert "tango points age" not in drawn(page)
    assert "the figure of task age in experiment tango (no prediction is a pair of numbers)" in page
    assert "tango confusion speaker" in drawn(page)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {
                "chance": {"age": 3},
                "classes": {"speaker": 11, "emotion": None},
                "primary": {"age": ["rmse"]},
                "kinds": {"age": ["regression"]},
                "layers": {"wavlm": 3},
                "seconds": 3,
                "num_utterances": "many",
                "provenance": {"manifest": {"a": 1}, "views": {"wavlm": 3}},
                "views": [1, None],
            },
            "1 + None",
        ),
        ({"tasks": {"age": {"rmse": {"mean": 8.5, "folds": 3}}}}, "the table of experiment tango"),
    ],
)
@pytest.mark.usefixtures("sketched")
def test_odd_metrics_never_cost_the_page(full, change, told):
    """What cannot be shown of one experiment is named or left blank; the rest of the page is there."""
    path = full.folder / "results" / "tango" / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    page = report.build(full.folder, full.params).read_text()
    assert "single-mfcc" in section(page, "comparison")
    assert "single-wavlm confusion speaker" in drawn(page)
    assert told in page
    assert "SVMT" in report.summary(full.folder, full.params)


@pytest.mark.usefixtures("sketched")
def test_curves_of_another_form_cost_their_figure(full):
    """A column that is missing is named."""
    path = full.folder / "results" / "tango" / "curves.parquet"
    pd.read_parquet(path).drop(columns="valid_loss").to_parquet(path)
    page = report.build(full.folder, full.params).read_text()
    assert "the training curves of experiment tango (&#39;valid_loss&#39;)" in page
    assert "tango losses speaker+emotion+age" not in drawn(page)
    assert "shared losses speaker+emotion+age" in drawn(page)


@pytest.mark.usefixtures("sketched")
def test_weights_that_are_no_numbers_cost_their_elimination(full):
    """The comparison and everything else stand."""
    path = full.folder / "results" / "eliminate" / "wavlm" / "elimination.json"
    found = json.loads(path.read_text())
    found["rounds"][0]["weights"]["3"] = "heavy"
    path.write_text(json.dumps(found))
    page = report.build(full.folder, full.params).read_text()
    assert "layer elimination wavlm (" in page
    assert 'id="comparison"' in page
