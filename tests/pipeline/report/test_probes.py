"""What a linear probe beats is said."""

import pytest

from strata.pipeline import report
from strata.pipeline.report import probes
from tests.pipeline.results.made import made

LINEAR = {"encoder": "linear"}
CNN = {"encoder": "cnn"}


def test_a_model_that_a_probe_of_its_views_beats_is_named_with_both_scores():
    """As letters of unheard speakers once were: 43.40 by convolutions, 60.00 by a linear layer."""
    model = made("tango", 0.434, config=CNN, views=("mfcc", "wavlm"))
    (line,) = probes.beaten([model, made("probe", 0.6, config=LINEAR)])
    assert line == ("tango (cnn, mfcc + wavlm) by probe (linear, mfcc): speaker accuracy (%) ↑ 60.00 against 43.40.")


@pytest.mark.parametrize(
    "probe",
    [
        made("probe", 0.4, config=LINEAR),
        made("probe", 0.6, "0the2", config=LINEAR),
        made("probe", 0.6, config=LINEAR, truth={"speaker": "other"}),
        made("probe", 0.6, config=LINEAR, views=("wavlm",)),
        made("probe", 0.6, config={"encoder": "mlp"}),
        made("probe", 0.43401, config=LINEAR),
    ],
    ids=["worse", "other folds", "other labels", "another view", "no probe", "alike as written"],
)
def test_nothing_is_said_where_nothing_is_beaten(probe):
    """A probe reads the model's own views, and was tested on the same."""
    assert probes.beaten([made("model", 0.434, config=CNN), probe]) == []


def test_an_error_is_beaten_by_a_smaller_one():
    """Whichever way the metric runs."""
    model = made("model", 6.5, metric="rmse", config=CNN)
    (line,) = probes.beaten([model, made("probe", 5.5, metric="rmse", config=LINEAR)])
    assert line.endswith("speaker RMSE ↓ 5.50 against 6.50.")


def test_the_cells_of_a_grid_are_told_in_one_line():
    """How many, and the one that loses most."""
    cells = [made(f"grid/{name}", mean, config=CNN) for name, mean in (("a", 0.5), ("b", 0.3), ("c", 0.9))]
    (line,) = probes.beaten([*cells, made("probe", 0.6, config=LINEAR)])
    assert line == (
        "grid: 2 of 3 cells, most of all grid/b (cnn, mfcc) by probe (linear, mfcc): "
        "speaker accuracy (%) ↑ 60.00 against 30.00."
    )


def test_the_page_and_the_terminal_warn(empty):
    """Above all tables, since a table that lacks the probe's row would not say so."""
    for name, encoder, mean in (("model", "cnn", 0.5), ("probe", "linear", 0.75)):
        empty.add_experiment(name, "SVST", ["wavlm"], {"speaker": mean}, {"speaker": ["a", "b"]})
        path = empty.folder / "results" / name / "metrics.json"
        path.write_text(path.read_text().replace('"encoder": "cnn"', f'"encoder": "{encoder}"'))
    told = "model (cnn, wavlm) by probe (linear, wavlm): speaker accuracy (%) ↑ 75.00 against 50.00."
    assert told in report.build(empty.folder, empty.params).read_text()
    assert f"{probes.HEADING}\n  {told}" in report.summary(empty.folder, empty.params)
